#!/usr/bin/env bash
exec "${PYTHON:-python}" "$(dirname "$0")/train_cnn.py" "--data=${1:?usage: hw3_train.sh train.csv}" "${@:2}"
