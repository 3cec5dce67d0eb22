CREATE ROLE dagster LOGIN PASSWORD '${secret.dagster_db_password}';
CREATE ROLE serving LOGIN PASSWORD '${secret.serving_db_password}';
CREATE ROLE reader LOGIN PASSWORD '${secret.serving_reader_password}';
CREATE ROLE mlflow LOGIN PASSWORD '${secret.mlflow_db_password}';
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE serving OWNER serving;
CREATE DATABASE mlflow OWNER mlflow;
