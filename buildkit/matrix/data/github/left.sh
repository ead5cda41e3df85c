# The cells that the checkpoint ended, as the matrix of the next round.
python3 - >> "$GITHUB_OUTPUT" <<'PY'
import json, pathlib
cells = [json.loads(path.read_text()) for path in sorted(pathlib.Path("unfinished").glob("*.json"))]
print(f"count={len(cells)}")
print(f"cells={json.dumps({'include': cells})}")
PY
