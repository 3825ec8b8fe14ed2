#!/bin/sh
# Runs FastGPU with the Node of this folder. Uses no other program: PATH may be empty.
case $0 in
  */*) here=${0%/*} ;;
  *) here=$(command -v -- "$0") && here=${here%/*} ;;
esac
if [ -h "$0" ] && [ -x /usr/bin/readlink ]; then
  self=$(/usr/bin/readlink -f -- "$0") && here=${self%/*}
fi

has() {
  for place in /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu /lib64 /usr/lib64 /usr/lib; do
    [ -e "$place/$1" ] && return 0
  done
  return 1
}
# Minimal systems lack libraries that Node is linked with.
if ! { has libatomic.so.1 && has libstdc++.so.6 && has libgcc_s.so.1; }; then
  LD_LIBRARY_PATH=$here/lib/system${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
fi
exec "$here/lib/node" "$here/lib/fastgpu.js" "$@"
