"""The service `mlflow`: brings MLflow's tables up to date, and becomes MLflow's own server, which only reads."""

from __future__ import annotations

import os
import sys

from app.environment.settings import load
from app.errors import HeadwaterError
from app.models.tracking.tracker import (
    MlflowProcess,
    mlflow_environment,
    mlflow_python,
)

READ_ONLY = "&options=-c%20default_transaction_read_only%3Don"


def main() -> int:
    """Replace this process by the server. Returns: 1 with a plain message where that cannot be."""
    settings = load()
    try:
        MlflowProcess(settings).ask("prepare", {})
        python = mlflow_python()
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    environment = mlflow_environment(settings)
    # Whoever reaches the port could otherwise make any file the champion that the next run loads.
    reading = environment["MLFLOW_TRACKING_URI"] + READ_ONLY
    environment |= {
        "MLFLOW_TRACKING_URI": reading,
        # By default it also starts a queue of jobs of its own.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # What `mlflow server` gives to the process that it starts and waits for, with 200 MB of its own.
        "_MLFLOW_SERVER_FILE_STORE": reading,
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    address = ["--host", settings.ports.bind, "--port", str(settings.ports.number("mlflow"))]
    command = [
        str(python),
        "-m",
        "uvicorn",
        *address,
        "--no-access-log",
        "mlflow.server.fastapi_app:app",
    ]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
