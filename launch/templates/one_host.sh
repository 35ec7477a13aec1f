#!/usr/bin/env bash
# One machine: one process uses all of its accelerators. SIGTERM and Ctrl-C save, and the same script resumes.
set -euo pipefail
cd "$folder"
exec $command
