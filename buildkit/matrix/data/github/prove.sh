# The proof stages again, where there is a GPU. This job has no secret: code of the package runs in it.
work=$RUNNER_TEMP/cudabuild-proof
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$CUDABUILD"
"$work/venv/bin/uv" python install --quiet "$CELL_PYTHON"
python=$("$work/venv/bin/uv" python find "$CELL_PYTHON")
words=(--torch "$CELL_TORCH" --python "$python" --require executed --json)
[ -z "$CELL_TARGETS" ] || words+=(--target "$CELL_TARGETS")
mkdir -p proof
token=$(cat /proc/sys/kernel/random/uuid)
echo "::stop-commands::$token"
code=0
CUDABUILD_CACHE=$work/cache "$work/venv/bin/cudabuild" verify wheel/*.whl "${words[@]}" > "proof/$CELL-sm$GPU.json" || code=$?
echo "::$token::"
[ "$code" = 0 ] || echo "::error title=$CELL::not proven on compute capability $GPU (exit code $code)"
exit "$code"
