# Ends process groups when its standard input closes, that is when its owner is gone in whatever way.
# $1: a directory to remove afterwards, or nothing. Input lines: `watch GROUP SIGNAL`, `forget GROUP`.
trap '' INT TERM HUP
watched=
while read -r verb group signal; do
  kept=
  for entry in $watched; do
    [ "${entry%:*}" = "$group" ] || kept="$kept $entry"
  done
  watched=$kept
  [ "$verb" = watch ] && watched="$watched $group:$signal"
done

for entry in $watched; do
  kill -s "${entry#*:}" -- "-${entry%:*}"
done
tenths=100
for entry in $watched; do
  while [ "$tenths" -gt 0 ] && kill -s 0 -- "-${entry%:*}"; do
    sleep 0.1
    tenths=$((tenths - 1))
  done
  kill -s KILL -- "-${entry%:*}"
done
[ -z "$1" ] || rm -rf -- "$1"
