"""The five trainings, one short file each."""
