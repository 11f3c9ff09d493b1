package portmap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

// Limits and numbers of UPnP.
const (
	maxAnswer  = 64 << 10        // bytes of a description, or of an answer to a call
	callTime   = 2 * time.Second // for each
	portTries  = 3               // outer ports that are asked for, while they are taken
	firstPort  = 1024            // of those, but for the inner port
	conflict   = 718             // ConflictInMappingEntry: the outer port is taken
	permanents = 725             // OnlyPermanentLeasesSupported

	ssdpGroup = "239.255.255.250:1900"
)

// connection is what the services WANIPConnection (1 and 2) and WANPPPConnection have in common.
type connection interface {
	AddPortMappingCtx(ctx context.Context, remoteHost string, outer uint16, protocol string, inner uint16, client string, enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remoteHost string, outer uint16, protocol string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

// igd makes a mapping by UPnP.
type igd struct{ connection connection } // nil: not found yet

func (g *igd) make(ctx context.Context, at site, outer netip.AddrPort) (netip.AddrPort, time.Duration, error) {
	if g.connection == nil {
		location, err := at.locate(ctx)
		if err != nil {
			return netip.AddrPort{}, 0, err
		}
		if g.connection, err = at.describe(ctx, location); err != nil {
			return netip.AddrPort{}, 0, err
		}
	}
	text, err := g.connection.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.AddrPort{}, 0, fault(ctx, err)
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil { // some have none while they are offline
		return netip.AddrPort{}, 0, fmt.Errorf("%w: outer address %.40q", ErrInvalid, text)
	}
	port := outer.Port()
	if port == 0 {
		port = at.inner.Port()
	}
	lease := uint32(wanted / time.Second)
	for try := 1; ; {
		err := g.connection.AddPortMappingCtx(ctx, "", port, "UDP", at.inner.Port(), at.inner.Addr().String(), true, "conec", lease)
		switch code := faultCode(err); {
		case err == nil:
			return netip.AddrPortFrom(addr.Unmap(), port), wanted, nil
		case code == permanents && lease != 0:
			lease = 0
		case code == conflict && try < portTries:
			port = uint16(firstPort + rand.IntN(1<<16-firstPort))
			try++
		default:
			return netip.AddrPort{}, 0, fault(ctx, err)
		}
	}
}

func (g *igd) unmake(ctx context.Context, _ site, outer netip.AddrPort) error {
	return fault(ctx, g.connection.DeletePortMappingCtx(ctx, "", outer.Port(), "UDP"))
}

// locate finds where the gateway describes itself (UPnP Device Architecture 1.1 section 1.3). Only it is heard.
func (at site) locate(ctx context.Context) (location *url.URL, err error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.inner.Addr(), 0)))
	if err != nil {
		return nil, fmt.Errorf("ask gateway: %w", err)
	}
	defer conn.Close()
	send := func() error { return at.sendSearch(conn) }
	err = exchange(ctx, conn, at.pause, send, func(from netip.AddrPort, message []byte) (err error) {
		if from.Addr().Unmap() != at.gateway {
			return errOther
		}
		location, err = at.location(message)
		return err
	})
	return location, err
}

// sendSearch asks the gateway, and the group that it is in: some answer only one of these.
func (at site) sendSearch(conn *net.UDPConn) error {
	to := []*net.UDPAddr{net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.gateway, at.search))}
	if at.group {
		to = append(to, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(ssdpGroup)))
	}
	var failed error
	for _, version := range []string{"1", "2"} { // version 2 has to answer for version 1, but some do not
		request := "M-SEARCH * HTTP/1.1\r\nHOST: " + ssdpGroup + "\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n" +
			"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:" + version + "\r\n\r\n"
		for _, addr := range to {
			if _, err := conn.WriteToUDP([]byte(request), addr); err != nil {
				failed = err
			}
		}
	}
	return failed
}

// location reads where the gateway describes itself from its answer to a search.
func (at site) location(message []byte) (*url.URL, error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(message)), nil)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(response.Header.Get("ST"), ":InternetGatewayDevice:") {
		return nil, errOther
	}
	defer response.Body.Close()
	location, err := url.Parse(response.Header.Get("LOCATION"))
	if err != nil || !at.own(location) {
		return nil, errOther
	}
	return location, nil
}

// own reports whether a URL is one of the gateway's: it could have this host ask others, else.
func (at site) own(location *url.URL) bool {
	host, err := netip.ParseAddr(location.Hostname())
	return err == nil && location.Scheme == "http" && host.Unmap() == at.gateway
}

// describe reads the gateway's description, and finds the service in it that maps ports.
func (at site) describe(ctx context.Context, location *url.URL) (connection, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	response, err := caller().Do(request)
	if err != nil {
		return nil, fault(ctx, err)
	}
	defer response.Body.Close()
	root := &goupnp.RootDevice{}
	decoder := xml.NewDecoder(response.Body)
	decoder.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := decoder.Decode(root); err != nil {
		return nil, fmt.Errorf("%w: description: %.200q", ErrInvalid, err.Error())
	}
	base := location
	if root.URLBaseStr != "" {
		if base, err = url.Parse(root.URLBaseStr); err != nil {
			base = location
		}
	}
	root.SetURLBase(base)
	return at.service(root, location)
}

// service finds the service that maps ports, newest first.
func (at site) service(root *goupnp.RootDevice, location *url.URL) (connection, error) {
	check := func(client *goupnp.ServiceClient) bool {
		client.SOAPClient.HTTPClient = *caller()
		return at.own(&client.SOAPClient.EndpointURL)
	}
	// An error of these means that there is no such service.
	second, _ := internetgateway2.NewWANIPConnection2ClientsFromRootDevice(root, location)
	first, _ := internetgateway2.NewWANIPConnection1ClientsFromRootDevice(root, location)
	ppp, _ := internetgateway2.NewWANPPPConnection1ClientsFromRootDevice(root, location)
	for _, client := range second {
		if check(&client.ServiceClient) {
			return client, nil
		}
	}
	for _, client := range first {
		if check(&client.ServiceClient) {
			return client, nil
		}
	}
	for _, client := range ppp {
		if check(&client.ServiceClient) {
			return client, nil
		}
	}
	return nil, fmt.Errorf("%w: no service that maps ports", ErrInvalid)
}

// caller makes calls to a gateway: without a proxy, without going where it is sent, and with short answers. It keeps no
// connections.
func caller() *http.Client {
	return &http.Client{
		Timeout:       callTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: limited{&http.Transport{
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
		}},
	}
}

// limited cuts answers off.
type limited struct{ *http.Transport }

// RoundTrip implements [http.RoundTripper].
func (l limited) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := l.Transport.RoundTrip(request)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxAnswer), response.Body}
	}
	return response, err
}

// faultCode is the number of an error that the gateway told; 0 if it told none.
func faultCode(err error) int {
	if told, ok := errors.AsType[*soap.SOAPFaultError](err); ok {
		return told.Detail.UPnPError.Errorcode
	}
	return 0
}

// fault says what an error of a call means. Texts that the gateway chose are quoted and cut off.
func fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code := faultCode(err); code != 0 {
		return fmt.Errorf("%w with code %s", ErrRefused, strconv.Itoa(code))
	}
	if slow, ok := errors.AsType[net.Error](err); ok && slow.Timeout() {
		return ErrNoAnswer
	}
	return fmt.Errorf("%w: %.200q", ErrInvalid, err.Error())
}
