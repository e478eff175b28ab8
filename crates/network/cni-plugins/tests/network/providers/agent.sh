# Stands in for the plugins that only pass on to an agent of their network: Weave Net, Cilium, Calico,
# OpenShift SDN, OVN-Kubernetes. It keeps their contract with the runtime: what they need of the
# environment and the configuration, the shape of their results, and how they fail without the agent.
# Its data path is a routed veth pair. The head of the file says VERSION, PREFIX, GATEWAY, NO_AGENT.
base=$(cd "$(dirname "$0")/.." && pwd)
config=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >> "$base/calls"

fail() {
    printf '{"cniVersion":"%s","code":%s,"msg":"%s","details":""}' "$VERSION" "$1" "$2"
    exit 1
}
argument() {
    echo "$CNI_ARGS" | tr ';' '\n' | sed -n "s/^$1=//p"
}
case "$CNI_COMMAND" in VERSION)
    printf '{"cniVersion":"%s","supportedVersions":["%s"]}' "$VERSION" "$VERSION"
    exit 0 ;;
esac
case "$config" in
*'"cniVersion":"'$VERSION'"'*) ;;
*) fail 1 "incompatible CNI versions" ;;
esac
[ -e "$base/agent" ] || {
    # An agent that is not there cannot give back either, except where the plugin queues deletions.
    [ "$CNI_COMMAND" = DEL ] && [ "$QUEUES_DELETIONS" = yes ] && { echo "$CNI_CONTAINERID" >> "$base/queue"; exit 0; }
    fail "$NO_AGENT_CODE" "$NO_AGENT"
}
mkdir -p "$base/pods"
record="$base/pods/$CNI_CONTAINERID-$CNI_IFNAME"
link="$PREFIX$(echo "$CNI_CONTAINERID" | cut -c1-7)"
in_pod() { nsenter --net="$CNI_NETNS" "$@"; }

case "$CNI_COMMAND" in
ADD)
    # They look the pod up by these; without them nothing is known of it.
    [ -n "$(argument K8S_POD_NAME)" ] && [ -n "$(argument K8S_POD_NAMESPACE)" ] && [ -n "$(argument K8S_POD_INFRA_CONTAINER_ID)" ] ||
        fail 4 "required CNI variable missing"
    number=2
    while grep -qsx "10.61.0.$number" "$base"/pods/*; do number=$((number + 1)); done
    address="10.61.0.$number"
    echo "$address" > "$record"
    in_pod ip link add "$CNI_IFNAME" type veth peer name "$link" netns $$ || fail 100 "cannot make link"
    in_pod ip address add "$address/32" dev "$CNI_IFNAME"
    in_pod ip link set "$CNI_IFNAME" up
    in_pod ip route add "$GATEWAY" dev "$CNI_IFNAME" scope link
    in_pod ip route add default via "$GATEWAY"
    ip address add "$GATEWAY/32" dev "$link"
    ip link set "$link" up
    echo 1 > /proc/sys/net/ipv4/ip_forward
    ip route add "$address/32" dev "$link"
    result "$address" "$link"
    ;;
DEL)
    rm -f "$record"
    ip link delete "$link" 2>/dev/null || true
    ;;
CHECK)
    [ -e "$record" ] || fail 3 "no endpoint"
    ;;
esac
exit 0
