#!/usr/bin/env bash
# What a delivery does: lint the plans, deploy the flows, train, wait, promote.
#
#   PREFECT_API_URL=… MLFLOW_TRACKING_URI=… ci/deploy.sh PLAN [RUN-KEY [PATH=VALUE …]]
#
# A worker for the pool must run where the data are, with this commit installed. The same run key twice trains once.
# Exit code: 0 promoted, 3 refused by a gate, anything else: something failed.
set -euo pipefail
cd "$(dirname "$0")/.."

plan=${1:?usage: ci/deploy.sh PLAN [RUN-KEY [PATH=VALUE …]]}
run_key=${2:-ci-$(git rev-parse --short=12 HEAD)}
shift $(($# < 2 ? $# : 2))
: "${PREFECT_API_URL:?is not set: the URL of a Prefect server, with /api at its end}"
: "${MLFLOW_TRACKING_URI:?is not set: the URL of an MLflow server}"
bin=${ROUNDHOUSE_BIN:-.venv/bin}
sets=()
for change in "$@"; do sets+=(--set "$change"); done

echo "== plans"
"$bin/roundhouse" plans
"$bin/roundhouse" check "$plan" "${sets[@]}" --no-data
echo "== deploy"
"$bin/prefect" --no-prompt deploy --all
echo "== train $plan, run key $run_key"
"$bin/roundhouse" train "$plan" "${sets[@]}" --run-key "$run_key" --on-worker
echo "== promote"
"$bin/roundhouse" promote "$plan" "${sets[@]}" --run-key "$run_key" --on-worker
