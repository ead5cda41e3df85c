# One cell. Nothing that a build prints is a command to the runner: between the two lines with the token, which no
# process but this shell knows, it takes none.
words=(build "$CELL_PACKAGE" --torch "$CELL_TORCH" --python "$CELL_INTERPRETER" --device "$CELL_DEVICE")
[ -z "$CELL_TARGETS" ] || words+=(--target "$CELL_TARGETS")
[ -z "$CELL_REQUIRE" ] || words+=(--require "$CELL_REQUIRE")
[ -z "$CELL_TIMEOUT" ] || words+=(--timeout "$CELL_TIMEOUT")
[ -z "$CELL_MEMORY" ] || words+=(--memory "$CELL_MEMORY")
builder=(setpriv --reuid=cudabuild --regid=cudabuild --init-groups env "HOME=$WORK/home" "CUDABUILD_CACHE=$WORK/cache")
answer=$WORK/out/$CELL.json
token=$(cat /proc/sys/kernel/random/uuid)
echo "::stop-commands::$token"
code=0
# SIGTERM ends a build and keeps what it has compiled: that is the checkpoint.
timeout --foreground --kill-after=10m "$CHECKPOINT" \
  "${builder[@]}" "$TOOLS/bin/cudabuild" "${words[@]}" --verbose --out "$WORK/out" --json > "$answer" || code=$?
"${builder[@]}" "$TOOLS/bin/cudabuild" cache gc --keep 3 || true
echo "::$token::"
state=failed
[ "$code" != 0 ] || state="done"
[ "$code" != 124 ] || state=unfinished
echo "state=$state" >> "$GITHUB_OUTPUT"
if [ "$state" = unfinished ]; then
  mkdir -p "$WORK/unfinished"
  echo "$CELL_JSON" > "$WORK/unfinished/$CELL.json"
  if [ "$LAST_ROUND" = true ]; then
    echo "::error title=$CELL::not finished after $CHECKPOINT; what is compiled is kept: run the workflow again"
  else
    echo "::warning title=$CELL::not finished after $CHECKPOINT; what is compiled is kept, and the next round goes on"
    code=0
  fi
elif [ "$state" = failed ]; then
  echo "::error title=$CELL::exit code $code; the log above and the artifact log-$CELL say why"
fi
exit "$code"
