# Compiler, git and Python, as root.
read -ra wanted <<< "$PACKAGES"
case "$INSTALLER" in
  apt)
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${wanted[@]}" > /dev/null
    ;;
  dnf) dnf --assumeyes --quiet install "${wanted[@]}" ;;
esac
[ -z "$TOOLS_PATH" ] || echo "$TOOLS_PATH" >> "$GITHUB_PATH"
git config --system --add safe.directory '*'
# 14 GB is all that a runner promises; torch, the toolkit and a build take about 9 of them.
room=$(df --output=avail --block-size=1G / | tail -n 1)
if [ "$room" -lt 10 ]; then
  echo "::error::$room GB are free here, and torch, a CUDA toolkit and a build need 10: take a larger runner"
  exit 1
fi
