# shellcheck shell=bash disable=SC2034,SC2154
# Writes the keys and settings of a new cluster into its state folder. Sourced by e2e/up, after lib.sh.

# All addresses are of 198.18.0.0/15, the range for benchmarks of RFC 2544, so that they are nobody's on the way.
node_address=198.19.255.1
pod_range=198.18.0.0/24
service_range=198.19.0.0/24
first_service=198.19.0.1
dns_address=198.19.0.10

# signed NAME SUBJECT ARGUMENT…: a key and a certificate. An empty configuration, because the system's own may make
# every certificate an authority, which strict clients refuse.
signed() {
    local file=$state/pki/$1 subject=$2
    shift 2
    openssl req -config <(printf '[req]\ndistinguished_name = dn\n[dn]\n') -x509 -days 365 -subj "$subject" -nodes \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout "$file.key" -out "$file.crt" "$@"
}

write_keys() {
    mkdir -p "$state/pki"
    # shellcheck disable=SC2054 # the commas are meant
    local authority=(-CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -addext basicConstraints=critical,CA:FALSE)
    local dns=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
    signed ca /CN=ca -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    signed apiserver /CN=kube-apiserver "${authority[@]}" \
        -addext "subjectAltName=$dns,DNS:localhost,IP:127.0.0.1,IP:$node_address,IP:$first_service"
    signed kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client "${authority[@]}" \
        -addext extendedKeyUsage=clientAuth
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$state/pki/service-accounts.key"
    openssl pkey -in "$state/pki/service-accounts.key" -pubout -out "$state/pki/service-accounts.pub"
}

# user FILE NAME GROUP: a token for a user, and a kubeconfig that holds it.
user() {
    local token
    token=$(openssl rand -hex 16)
    echo "$token,$2,$2,\"$3\"" >>"$state/tokens.csv"
    cat >"$state/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: cluster
contexts: [{name: cluster, context: {cluster: cluster, user: $1}}]
clusters: [{name: cluster, cluster: {server: "https://$node_address:6443", certificate-authority: $state/pki/ca.crt}}]
users: [{name: $1, user: {token: $token}}]
END
}

write_users() {
    : >"$state/tokens.csv"
    user admin admin system:masters
    user provisioner provisioner system:masters
    user kube-controller-manager system:kube-controller-manager ''
    user kube-scheduler system:kube-scheduler ''
    user kube-proxy system:kube-proxy ''
    user kubelet system:node:node system:nodes
}

# The cluster's own programs stay out of the audit log: it is for counting the requests of what is tested.
write_audit_policy() {
    cat >"$state/audit-policy.yaml" <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: [provisioner, "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]
  - level: None
    userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  - level: Metadata
END
}

write_containerd_settings() {
    # Without CAP_SYS_RESOURCE (bit 24) nobody may lower a process's oom_score_adj, and runc would fail.
    local capabilities restrict=true
    capabilities=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
    (((16#$capabilities >> 24) & 1)) && restrict=false
    cat >"$state/containerd.toml" <<END
version = 3
root = "$state/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.internal.v1.opt"]
path = "$state/containerd/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = $restrict
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$state/cni"
END
}

# ptp rather than bridge: pods do not share a link, so that an answer to a Service's address cannot bypass the node.
write_network_settings() {
    mkdir -p "$state/cni"
    cat >"$state/cni/10-pods.conflist" <<END
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": "$pod_range"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
    # For processes of the node, and for people: cluster names resolve in e2e/run too.
    printf 'options timeout:1\nnameserver %s\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n' \
        "$dns_address" >"$state/resolv.conf"
    # For pods with dnsPolicy Default: there is no resolver outside the cluster.
    echo "nameserver 127.0.0.1" >"$state/no-resolver.conf"
}

write_kubelet_settings() {
    local cgroup_settings=''
    if [[ $(cgroup_mounts) != /sys/fs/cgroup ]]; then
        cgroup_settings=$'failCgroupV1: false\ncgroupsPerQOS: false\nenforceNodeAllocatable: []'
    fi
    cat >"$state/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $state/pki/ca.crt}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDomain: cluster.local
clusterDNS: [$dns_address]
resolvConf: $state/no-resolver.conf
cgroupDriver: cgroupfs
$cgroup_settings
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {imagefs.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
volumePluginDir: $state/kubelet-plugins
END
}

configure() {
    write_keys
    write_users
    write_audit_policy
    write_containerd_settings
    write_network_settings
    write_kubelet_settings
}
