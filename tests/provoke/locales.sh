### localised-out-of-memory
cat > build.sh <<'S'
bash -c 'kill -9 $$'
echo "$?"
S
foreign zh_CN bash build.sh

### localised-out-of-memory german
cat > build.sh <<'S'
bash -c 'kill -9 $$'
echo "$?"
S
foreign de bash build.sh

### localised-disk-full
hello
mkdir disk
mount_and() { mount -t tmpfs -o size=4k none disk; head -c 4096 /dev/zero > disk/full; }
foreign ja bash -c 'mount -t tmpfs -o size=4k none disk; head -c 4096 /dev/zero > disk/full; g++ -c -o disk/x.o hello.cpp'

### localised-command-not-found
foreign zh_CN bash -c 'nvcc-example --version'

### localised-message
printf 'int main() { return unknown; }\n' > x.cpp
foreign ja g++ -c x.cpp

### localised-message chinese
printf 'int main() { return unknown; }\n' > x.cpp
foreign zh_CN g++ -c x.cpp

### localised-message german
printf 'int main() { return unknown; }\n' > x.cpp
foreign de g++ -c x.cpp

### python-headers chinese
echo '#include <Python.h>' > module.cpp
foreign zh_CN g++ -c module.cpp

### python-headers japanese
echo '#include <Python.h>' > module.cpp
foreign ja g++ -c module.cpp

### python-headers german
echo '#include <Python.h>' > module.cpp
foreign de g++ -c module.cpp
