"""The service `mlflow`: upgrades MLflow's tables, and then becomes MLflow's own server with read-only sessions."""

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
    """Replace this process by the server. Returns: 1 with a plain message if that is impossible."""
    settings = load()
    try:
        MlflowProcess(settings).ask("prepare", {})
        python = mlflow_python()
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    environment = mlflow_environment(settings)
    # Otherwise anyone who can connect to the port could make any file the champion, which the next run loads.
    reading = environment["MLFLOW_TRACKING_URI"] + READ_ONLY
    environment |= {
        "MLFLOW_TRACKING_URI": reading,
        # By default it also starts its own queue of jobs.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # The variables that `mlflow server` passes to the process that it starts; `mlflow server` itself would take 200 MB.
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
