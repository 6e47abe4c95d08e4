"""The long searches, one after another, each with its share of `SOAK_MINUTES`.

    python -m tests.soak

Prints what each got through; exits with 1 if one of them found something.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

_COLLECT = [sys.executable, "-m", "pytest", "-m", "soak", "--collect-only", "-q", "-p", "no:randomly"]
_RUN = [sys.executable, "-m", "pytest", "-m", "soak", "-q", "-s", "-p", "no:randomly", "--no-header"]


def main() -> int:
    """Run all tests that are marked `soak`."""
    minutes = float(os.environ.get("SOAK_MINUTES", "120"))
    listed = subprocess.run(_COLLECT, capture_output=True, text=True, check=False)
    names = [line for line in listed.stdout.splitlines() if "::" in line]
    if not names:
        print(listed.stdout, listed.stderr, "no long search was found", sep="\n")
        return 1
    deadline = time.monotonic() + minutes * 60
    failed = []
    for number, name in enumerate(names):
        # What one leaves unused the others get.
        share = max(10.0, (deadline - time.monotonic()) / (len(names) - number))
        print(f"\n[{number + 1}/{len(names)}] {name}: {share / 60:.1f} min", flush=True)
        environment = os.environ | {"SOAK_SECONDS": f"{share:.0f}", "HYPOTHESIS_PROFILE": "soak"}
        if subprocess.run([*_RUN, name], check=False, env=environment).returncode != 0:
            failed.append(name)
    print(f"\n{len(names) - len(failed)} passed, {len(failed)} failed")
    for name in failed:
        print(f"failed: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
