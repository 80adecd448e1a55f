#!/usr/bin/env bash
# Refuses what must not run, installs gate and runs it. The exit code is the gate's; stdout is for the runner to obey.
set -euo pipefail
set -f # a format is a word, never a pattern of file names
work=$1

# Nothing of an earlier run may stand beside what this one says, whatever becomes of this one.
rm -f -- "${OUTPUT_DIR:-.}"/gate.{text,json,junit,sarif,github,markdown,html,attestation.json}

faults=0
expect() { # NAME VALUE PATTERN WHAT
    [[ $2 =~ ^($3)$ ]] && return
    printf '::error title=gate::%s is %q, expected %s\n' "$1" "$2" "$4"
    faults=1
}
case $MODEL in
models:*)
    expect model "$MODEL" 'models:/([^/[:cntrl:]]+/[0-9]+|m-[0-9a-f]{32})' \
        'models:/NAME/VERSION; what an alias or a stage names can change between the check and the promotion'
    ;;
*) expect model "$MODEL" '[^-[:cntrl:]][^[:cntrl:]]*' 'a model URI, as in models:/NAME/VERSION' ;;
esac
expect formats "$FORMATS" '[a-z[:space:]]*' 'formats with spaces between them, as in json sarif'
expect output-dir "$OUTPUT_DIR" '[^[:cntrl:]]+' 'a folder, as in gate-report'
expect summary "$SUMMARY" 'true|false' 'true or false'
expect version "$VERSION" '([0-9]+\.[0-9]+\.[0-9]+)?' 'three numbers as in 1.2.3, or nothing'
((faults == 0)) || exit 2

# The packages of the job's own Python stay in sight: a torch for its GPU, and whatever the model needs.
python="$RUNNER_TEMP/geometry-gate/bin/python"
python3 -m venv --system-site-packages "$RUNNER_TEMP/geometry-gate" >&2
"$python" -m pip install --quiet --disable-pip-version-check -- \
    "${VERSION:+geometry-gate==}${VERSION:-$GITHUB_ACTION_PATH/../../..}" >&2

options=("--policy=$POLICY" ${BASELINE:+"--baseline=$BASELINE"} "--fail-on=$FAIL_ON" --no-progress)
for format in $FORMATS; do options+=("--output=$format=$OUTPUT_DIR/gate.$format"); done
export GATE_ATTESTATION="$OUTPUT_DIR/gate.attestation.json"
"$python" -P -m gate check --output=github "--output=json=$work/evidence.json" "--output=markdown=$work/summary.md" \
    "${options[@]}" -- "$MODEL"
