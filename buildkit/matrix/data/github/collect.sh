# Wheels into one folder, every verdict (of builds and of proofs) under the hash of the wheel that it is about.
python3 - <<'PY'
import json, pathlib, re, shutil
wheels, verdicts = pathlib.Path("wheels"), pathlib.Path("verdicts")
wheels.mkdir()
verdicts.mkdir()
for path in sorted(pathlib.Path("artifacts").rglob("*.whl")):
    shutil.copy(path, wheels)
for path in sorted(pathlib.Path("artifacts").rglob("*.json")):
    verdict = json.loads(path.read_text()).get("verdict") or {}
    sha256 = str(verdict.get("wheel_sha256", ""))
    if re.fullmatch("[0-9a-f]{64}", sha256):
        (verdicts / f"{sha256}-{path.name}").write_text(json.dumps(verdict))
print(len(list(wheels.iterdir())), "wheels,", len(list(verdicts.iterdir())), "verdicts")
PY
