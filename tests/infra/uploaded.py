"""Which files of the repository gcloud takes: its ignore files follow the rules of git, so git says
it, also where there is no clone."""

import os
import subprocess
from pathlib import Path

from tests.terraform import ROOT


def uploaded(ignore_file: str, folder: Path) -> list[str]:
    """The paths that the ignore file leaves. `folder` is a temporary one."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    elsewhere = os.environ | {"GIT_DIR": str(folder / ".git"), "GIT_WORK_TREE": str(ROOT)}
    command = ["git", "ls-files", "--others", f"--exclude-from={ROOT / ignore_file}"]
    done = subprocess.run(
        command, cwd=ROOT, env=elsewhere, check=True, capture_output=True, text=True
    )
    return sorted(done.stdout.splitlines())
