"""What is felt: the nine labels and the labels of a corpus."""
