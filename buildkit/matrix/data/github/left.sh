# The cells that the checkpoint ended, as the matrix of the next round.
cells=$(find unfinished -name '*.json' -exec cat {} + 2> /dev/null | jq --compact-output --slurp '{include: .}')
echo "count=$(jq '.include | length' <<< "$cells")" >> "$GITHUB_OUTPUT"
echo "cells=$cells" >> "$GITHUB_OUTPUT"
