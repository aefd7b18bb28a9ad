#!/usr/bin/env bash
usage="usage: hw3_test.sh test.csv prediction.csv"
exec "${PYTHON:-python}" "$(dirname "$0")/predict.py" "--data=${1:?$usage}" "--out=${2:?$usage}" "${@:3}"
