# For `sed -nE`, on a trace of `vmm --trace`: what happened with the queues of the disks, in the order
# in which it began.

/"cat":"(notify|drain|interrupt)"|"cat":"request","ph":"b"/ {
  s/^\{"name":"([^"]*)".*"args":\{(.*)\}\},?$/\1: \2/
  s/"(device|type)":"[^"]*",//g
  s/":/ /g
  s/,/, /g
  s/"//g
  p
}
