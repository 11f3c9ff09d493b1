// Package admin lets whoever runs a coordinator look into it and order it about, over HTTP
// on an address of its own.
//
// # Use
//
//	meters, metrics, err := admin.NewMeters()
//	c, err := coord.Start(ctx, &coord.Config{Meters: meters})
//	a, err := admin.Serve(c, &admin.Config{Addr: "127.0.0.1:1720", Metrics: metrics})
//	defer a.Close(ctx)
//
// Then GET /healthz, /readyz, /metrics, /v1/status, /v1/clients, /v1/groups and /v1/bans;
// POST /v1/kick, /v1/ban, /v1/unban and /v1/drain with a JSON body; and, by option, /debug/pprof.
// [Client] calls them, and so do the commands conec status, conec kick and others.
//
// Whoever reaches it is believed: an address that others may reach needs a token, which
// every request but /healthz and /readyz has to bear. Browsers of this host are kept out: a
// request has to name an address or localhost as its host, and an order has to be JSON.
//
// # Concurrency
//
// All methods may be called from any goroutine. Requests that ask the coordinator wait
// for it, at most 5 seconds; draining waits for its end.
//
// # Limits
//
// 64 connections at a time, 64 KiB for a request's body, 10 seconds to send one.
//
// # Testing
//
// The tests here talk to a real coordinator; cmd/conec has scripts for the commands.
package admin
