#!/usr/bin/env bash
# SLURM: one process for each accelerator of each node, which find each other through SLURM. `sbatch` this file.
#SBATCH --job-name=$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$accelerators
#SBATCH --gpus-per-node=$accelerators
#SBATCH --cpus-per-task=$cpus
#SBATCH --time=$time
#SBATCH --partition=$partition
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# SIGTERM to the processes before the time is over: they save, and the job queues itself again.
#SBATCH --signal=TERM@120
set -euo pipefail
cd "$folder"

export ECR_PROCESSES=auto
status=0
srun --kill-on-bad-exit=1 $command || status=$$?
if [ "$$status" -eq 130 ]; then
  scontrol requeue "$$SLURM_JOB_ID"
fi
exit "$$status"
