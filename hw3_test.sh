#!/usr/bin/env bash
exec "${PYTHON:-python}" "$(dirname "$0")/predict.py" --data "${1:?usage: hw3_test.sh test.csv prediction.csv}" --out "${2:?usage: hw3_test.sh test.csv prediction.csv}" "${@:3}"
