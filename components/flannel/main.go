// Command flannel is flannel's daemon for tests and benchmarks of ours: its own backends, lease managers and rules, put together as its main.go
// does. That itself cannot be built: it wants a module of a cloud that the proxy does not have. Flags are named as upstream's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/etcd"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
)

var (
	iface      = flag.String("iface", "", "interface between the machines")
	kubeconfig = flag.String("kubeconfig-file", "", "leases are in the API server's Nodes; NODE_NAME is this one's")
	netConfig  = flag.String("net-config-path", "", "with -kubeconfig-file: the network's config")
	endpoint   = flag.String("etcd-endpoints", "", "leases are in this etcd, and the network's config")
	wanted     = flag.String("subnet", "", "with -etcd-endpoints: the subnet to ask for")
	masquerade = flag.Bool("ip-masq", false, "masquerade what leaves the pods' network")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flannel:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	manager, err := leases(ctx)
	if err != nil {
		return fmt.Errorf("lease manager: %w", err)
	}
	network, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("network config: %w", err)
	}
	stack, err := ipmatch.GetIPFamily(network.EnableIPv4, network.EnableIPv6)
	if err != nil {
		return err
	}
	link, err := ipmatch.LookupExtIface(*iface, "", "", stack, ipmatch.PublicIPOpts{})
	if err != nil {
		return fmt.Errorf("interface %q: %w", *iface, err)
	}
	chosen, err := backend.NewManager(ctx, manager, link).GetBackend(network.BackendType)
	if err != nil {
		return fmt.Errorf("backend %s: %w", network.BackendType, err)
	}
	var running sync.WaitGroup
	made, err := chosen.RegisterNetwork(ctx, &running, network)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if *masquerade {
		if err := rules(ctx, network, made); err != nil {
			return fmt.Errorf("rules: %w", err)
		}
	}
	running.Go(func() { made.Run(ctx) })
	if err := manager.CompleteLease(ctx, made.Lease(), &running); err != nil {
		return fmt.Errorf("completing the lease: %w", err)
	}
	running.Wait()
	return nil
}

func leases(ctx context.Context) (subnet.Manager, error) {
	if *kubeconfig != "" {
		return kube.NewSubnetManager(ctx, "", *kubeconfig, "flannel.alpha.coreos.com", *netConfig, true)
	}
	var asked ip.IP4Net
	if err := asked.UnmarshalJSON([]byte(`"` + *wanted + `"`)); err != nil {
		return nil, fmt.Errorf("subnet %q: %w", *wanted, err)
	}
	config := &etcd.EtcdConfig{Endpoints: []string{*endpoint}, Prefix: "/coreos.com/network"}
	return etcd.NewLocalManager(ctx, config, asked, ip.IP6Net{}, 60)
}

func rules(ctx context.Context, network *subnet.Config, made backend.Network) error {
	rules := &nftables.NFTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	none, none6 := ip.IP4Net{}, ip.IP6Net{}
	if err := rules.SetupAndEnsureMasqRules(ctx, network.Network, none, none, network.IPv6Network, none6, none6, made.Lease(), 5, false); err != nil {
		return err
	}
	rules.SetupAndEnsureForwardRules(ctx, network.Network, network.IPv6Network, 5)
	return nil
}
