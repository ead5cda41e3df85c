# Wheels, then what was proven of them. Nothing of any package runs here.
python3 -m venv "$RUNNER_TEMP/cudabuild"
"$RUNNER_TEMP/cudabuild/bin/pip" install --quiet --disable-pip-version-check "$CUDABUILD"
"$RUNNER_TEMP/cudabuild/bin/cudabuild" publish wheels/*.whl --index "$INDEX"
for file in verdicts/*.json; do
  sha256=$(basename "$file" | cut --delimiter=- --fields=1)
  printf 'header = "Authorization: Bearer %s"\n' "$CUDABUILD_TOKEN" | curl --silent --show-error --fail-with-body \
    --config - --header 'Content-Type: application/json' --data-binary "@$file" "$INDEX_ROOT/api/v1/verdicts/$sha256"
  echo
done
