"""The local server: everything on one port of this machine."""

from pathlib import Path

DATA = Path(__file__).parents[3] / ".cache" / "dev"
"""Where it keeps its PostgreSQL, the DSN of it in `dsn`, and the policy that it runs by."""
POLICY_FILE = "policy.yaml"
