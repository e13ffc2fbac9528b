#!/usr/bin/env bash
# Brings .venv-airflow to what locks/airflow.txt says, with our packages for Airflow in it, editable.
#   scripts/airflow_environment.sh
# Nothing happens when neither the lock nor a package's pyproject.toml has changed since.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-airflow
wanted=$(cat locks/airflow.txt packages/aiflow-sdk/pyproject.toml packages/aiflow-airflow/pyproject.toml "$0" | sha256sum)
[ -x "$venv/bin/python" ] && [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ] && exit

scripts/environment.sh uv
uv=.venv-uv/bin/uv
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1
dim='%s\n'
[ ! -t 2 ] || dim='\033[2m%s\033[0m\n'
# shellcheck disable=SC2059 the format is one of the two above
printf "$dim" "installing locks/airflow.txt into $venv" >&2
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --clear --python "${PYTHON:-python3}" "$venv"
rm -f "$venv/.installed"
export VIRTUAL_ENV=$venv
"$uv" pip sync --quiet --require-hashes locks/airflow.txt
"$uv" pip install --quiet --no-deps --no-build-isolation -e packages/aiflow-sdk -e packages/aiflow-airflow
echo "$wanted" >"$venv/.installed"
