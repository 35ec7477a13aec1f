"""Scripts and manifests that run a command elsewhere: shells and Kubernetes can read them, and they are right."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "launch"))
import render  # pyright: ignore[reportMissingImports]

GIVEN = {
    "one_host": {},
    "slurm": {"partition": "gpu", "nodes": "4", "time": "2:00:00"},
    "jobset_gpu": {"nodes": "4", "image": "eu.gcr.io/p/ecr:1", "claim": "shared", "accelerator": "nvidia-h100-80gb"},
    "jobset_tpu": {"nodes": "2", "image": "eu.gcr.io/p/ecr:1", "claim": "shared", "accelerator": "tpu-v5p-slice",
                   "topology": "2x2x2", "accelerators": "4"},
    "tpu_vm": {"zone": "europe-west4-b", "name": "pod"},
}  # fmt: skip
COMMAND = ["ecr", "train", "response", "--name", 'it\'s $HOME "x"']


def test_every_template_is_tested():
    assert GIVEN.keys() == render.targets().keys()


@pytest.mark.parametrize("target", [name for name in GIVEN if render.targets()[name].suffix == ".sh"])
def test_shellcheck_finds_nothing(target, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text(render.render(target, GIVEN[target], COMMAND))
    shellcheck = Path(sys.executable).with_name("shellcheck")
    result = subprocess.run([shellcheck, "--severity=warning", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def run(script, folder, **variables):
    """Runs a script with stand-ins for srun, scontrol and gcloud, which write what they were given."""
    for name in ("srun", "scontrol", "gcloud"):
        code = f"#!{sys.executable}\nimport json, os, sys\n"
        code += f"json.dump(sys.argv[1:], open({str(folder / name)!r}, 'w'))\n"
        code += "sys.exit(int(os.environ.get('STATUS', 0)) if sys.argv[0].endswith('srun') else 0)\n"
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        path.chmod(0o755)
    (folder / "job.sh").write_text(script)
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"} | variables
    return subprocess.run(["bash", folder / "job.sh"], env=environment, check=False).returncode


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (130, True)])
def test_slurm_runs_the_command_and_queues_again_what_was_stopped(tmp_path, status, requeued):
    script = render.render("slurm", GIVEN["slurm"] | {"folder": str(tmp_path)}, COMMAND)
    assert run(script, tmp_path, STATUS=str(status)) == status
    assert json.loads((tmp_path / "srun").read_text())[1:] == COMMAND
    assert (tmp_path / "scontrol").exists() == requeued
    assert "#SBATCH --nodes=4\n#SBATCH --ntasks-per-node=8\n#SBATCH --gpus-per-node=8\n" in script


def test_every_host_of_a_slice_gets_the_command(tmp_path):
    assert run(render.render("tpu_vm", GIVEN["tpu_vm"], COMMAND), tmp_path) == 0
    arguments = json.loads((tmp_path / "gcloud").read_text())
    assert "--worker=all" in arguments and "--zone=europe-west4-b" in arguments
    remote = arguments[-1].removeprefix("--command=")
    assert remote.startswith("cd /workspace/ecr_jax && ECR_PROCESSES=auto ecr train response")
    echo = subprocess.run(
        ["bash", "-c", "printf '%s\\n' " + remote.split(" train ")[1]], capture_output=True, text=True, check=True
    )
    assert echo.stdout.splitlines() == COMMAND[2:]  # as the shell of the host reads it


def test_one_host_passes_signals_on_and_waits(tmp_path):
    code = (
        "import signal, sys, time\n"
        "def save(*_): time.sleep(0.3); open('saved', 'w'); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, save); open('ready', 'w'); time.sleep(60)"
    )
    script = tmp_path / "job.sh"
    script.write_text(render.render("one_host", {"folder": str(tmp_path)}, [sys.executable, "-c", code]))
    process = subprocess.Popen(["bash", script])
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130 and (tmp_path / "saved").exists()


@pytest.mark.parametrize("target", ["jobset_gpu", "jobset_tpu"])
def test_job_sets_have_the_fields_of_their_schema(target):
    """The required fields and types of jobset.x-k8s.io/v1alpha2 and of the pods in it."""
    given = GIVEN[target]
    (manifest,) = yaml.safe_load_all(render.render(target, given, COMMAND))
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = manifest["spec"]
    assert spec["network"] == {"enableDNSHostnames": True} and spec["failurePolicy"]["maxRestarts"] == 20
    (replicated,) = spec["replicatedJobs"]
    assert replicated.keys() == {"name", "replicas", "template"} and replicated["replicas"] == 1
    job = replicated["template"]["spec"]
    assert job["parallelism"] == job["completions"] == int(given["nodes"])
    assert job["completionMode"] == "Indexed" and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and all(isinstance(value, str) for value in pod["nodeSelector"].values())
    (container,) = pod["containers"]
    assert container["command"] == COMMAND and container["image"] == given["image"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    for variable in container["env"]:  # values of variables are strings, or come from a field
        assert isinstance(variable.get("value", ""), str) and len(variable) == 2
    environment = {variable["name"]: variable for variable in container["env"]}
    ports = {port["containerPort"] for port in container["ports"]}
    (amount,) = container["resources"]["limits"].values()
    assert amount == given.get("accelerators", "8")
    if target == "jobset_tpu":
        assert environment["ECR_PROCESSES"]["value"] == "auto"
        assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "2x2x2"
        return
    assert environment["ECR_PROCESSES"]["value"] == given["nodes"]
    host, port = environment["ECR_COORDINATOR"]["value"].rsplit(":", 1)
    name, jobs = manifest["metadata"]["name"], replicated["name"]
    assert host == f"{name}-{jobs}-0-0.{name}" and int(port) in ports  # the first pod of the first job
    field = environment["ECR_PROCESS"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


@pytest.mark.parametrize(
    ("target", "given", "command", "message"),
    [
        ("moon", {}, COMMAND, "no target 'moon'; choose one of jobset_gpu"),
        ("slurm", {}, COMMAND, "slurm needs partition: --set partition=…"),
        ("slurm", {"partition": "a", "colour": "red"}, COMMAND, "slurm has no variable colour; it has name, nodes"),
        ("slurm", {"partition": "a; rm -rf /"}, COMMAND, "letters, digits and ./:@%"),
        ("slurm", {"partition": "a", "nodes": "0"}, COMMAND, "nodes='0': must be a whole number of at least 1"),
        ("jobset_gpu", GIVEN["jobset_gpu"] | {"name": "Ecr_1"}, COMMAND, "name='Ecr_1': lower-case letters"),
        ("one_host", {}, [], "no command: give it after --"),
    ],
)
def test_what_cannot_be_is_refused(target, given, command, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        render.render(target, given, command)


def test_the_command_prints_variables_and_text(capsys):
    assert render.main(["slurm"]) == 0
    assert "partition  (needed)" in capsys.readouterr().out
    assert render.main(["slurm", "--set", "partition=a", "nodes=2", "--", "ecr", "train", "emotion"]) == 0
    assert "srun --kill-on-bad-exit=1 ecr train emotion" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        render.main(["slurm", "--", "ecr"])
    assert "slurm needs partition" in capsys.readouterr().err
