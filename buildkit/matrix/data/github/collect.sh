# Wheels into one folder, every verdict (of builds and of proofs) under the hash of the wheel that it is about.
mkdir -p wheels verdicts
find artifacts -name '*.whl' -exec cp -t wheels {} +
find artifacts -name '*.json' -print0 | while IFS= read -r -d '' file; do
  sha256=$(jq --raw-output '.verdict.wheel_sha256 // empty' "$file")
  [ -z "$sha256" ] || jq --compact-output .verdict "$file" > "verdicts/$sha256-$(basename "$file")"
done
ls -l wheels verdicts
