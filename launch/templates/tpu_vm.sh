#!/usr/bin/env bash
# A TPU VM slice: the command on every host of it, one process a host. Run it again, and it resumes.
set -euo pipefail

gcloud compute tpus tpu-vm ssh "$name" \
  --zone="$zone" \
  --worker=all \
  --command=$remote
