# Stands in for Multus: calls the plugins of `delegates`, the first for the pod's own interface, and
# answers with the first one's result. It keeps its delegates' configuration for DEL by container.
base=$(cd "$(dirname "$0")/.." && pwd)
config=$(cat)
state="$base/multus"
mkdir -p "$state"
kept="$state/$CNI_CONTAINERID"
case "$CNI_COMMAND" in
ADD) echo "$config" > "$kept" ;;
DEL) [ -e "$kept" ] || exit 0; config=$(cat "$kept") ;;
esac
count=$(echo "$config" | jq '.delegates | length')
number=0
while [ "$number" -lt "$count" ]; do
    at=$number
    [ "$CNI_COMMAND" = DEL ] && at=$((count - 1 - number))
    delegate=$(echo "$config" | jq -c --argjson at "$at" '
        .delegates[$at] + {cniVersion: .cniVersion} + (if $at == 0 then {runtimeConfig: .runtimeConfig} else {} end)')
    type=$(echo "$delegate" | jq -r .type)
    program=
    for directory in $(echo "$CNI_PATH" | tr ':' ' '); do
        [ -x "$directory/$type" ] && program="$directory/$type" && break
    done
    ifname=$CNI_IFNAME
    [ "$at" = 0 ] || ifname="net$at"
    answer=$(echo "$delegate" | CNI_IFNAME="$ifname" "$program") || { echo "$answer"; exit 1; }
    [ "$at" = 0 ] && first=$answer
    number=$((number + 1))
done
[ "$CNI_COMMAND" = ADD ] && echo "$first"
[ "$CNI_COMMAND" = DEL ] && rm -f "$kept"
exit 0
