// Command coredns is CoreDNS with the plugins that the test cluster's Corefile names, and no others: the whole of it,
// with every cloud's client, takes longer to compile than all the rest that it shares with Kubernetes.
package main

import (
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
