// Command cadvisor is cAdvisor's own library with what the kubelet switches on, for benchmarks of ours beside it: the manager that reads cgroups, its
// collector for Prometheus, and one page that counts. Upstream's program of this name is no module that could be fetched.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/cadvisor/lib/cache/memory"
	"github.com/google/cadvisor/lib/container"
	"github.com/google/cadvisor/lib/manager"
	"github.com/google/cadvisor/lib/metrics"
	info "github.com/google/cadvisor/lib/model"
	"github.com/google/cadvisor/lib/storage"
	"github.com/google/cadvisor/lib/utils/sysfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/utils/clock"
)

// counter counts samples of the containers below a prefix, and keeps none.
type counter struct {
	prefix  string
	samples atomic.Int64
}

func (c *counter) AddStats(of *info.ContainerInfo, _ *info.ContainerStats) error {
	if strings.HasPrefix(of.Name, c.prefix) {
		c.samples.Add(1)
	}
	return nil
}

func (c *counter) Close() error { return nil }

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve /metrics and /samples on")
	interval := flag.Duration("interval", 10*time.Second, "time between two samples of a container, at the least")
	prefix := flag.String("cgroup", "/", "count samples below this cgroup, and read nothing else but the root")
	flag.Parse()
	if err := run(*listen, *prefix, *interval); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(listen, prefix string, interval time.Duration) error {
	// As pkg/kubelet/cadvisor has it.
	included := container.MetricSet{
		container.CpuUsageMetrics: {}, container.MemoryUsageMetrics: {}, container.DiskIOMetrics: {}, container.NetworkUsageMetrics: {},
		container.ProcessMetrics: {}, container.OOMMetrics: {}, container.PressureMetrics: {},
	}
	if err := flag.Set("docker_only", "true"); err != nil {
		return err
	}
	counted := &counter{prefix: prefix}
	fixed := false
	housekeeping := manager.HousekeepingConfig{Interval: &interval, AllowDynamic: &fixed}
	*manager.HousekeepingInterval = interval
	cache := memory.New(2*time.Minute, []storage.StorageDriver{counted})
	m, err := manager.New(cache, sysfs.NewRealSysFs(), housekeeping, included, []string{prefix}, nil, "", 0)
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	if err := m.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	registry := prometheus.NewRegistry()
	options := info.RequestOptions{IdType: info.TypeName, Count: 1, Recursive: true}
	registry.MustRegister(
		metrics.NewPrometheusCollector(m, nil, included, clock.RealClock{}, options),
		metrics.NewPrometheusMachineCollector(m, included),
	)
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	http.HandleFunc("/samples", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(counted.samples.Load())
	})
	return http.ListenAndServe(listen, nil)
}
