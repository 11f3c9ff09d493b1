package portmap

import (
	"errors"
	"math"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

// adaptersSize is the size in bytes of the first buffer for GetAdaptersAddresses, as Microsoft advises.
const adaptersSize = 15 << 10

// defaultGateway is that of the interface that is up and has the best metric.
func defaultGateway() (gateway netip.Addr, err error) {
	size := uint32(adaptersSize)
	var buf []byte
	for {
		buf = make([]byte, size)
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err := windows.GetAdaptersAddresses(windows.AF_INET, windows.GAA_FLAG_INCLUDE_GATEWAYS, 0, first, &size)
		if err == nil {
			return gatewayOf(first)
		}
		if !errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) || size <= uint32(len(buf)) {
			return gateway, err
		}
	}
}

func gatewayOf(first *windows.IpAdapterAddresses) (gateway netip.Addr, err error) {
	best := uint32(math.MaxUint32)
	for adapter := first; adapter != nil; adapter = adapter.Next {
		if adapter.OperStatus != windows.IfOperStatusUp || adapter.FirstGatewayAddress == nil || adapter.Ipv4Metric >= best {
			continue
		}
		if addr, ok := netip.AddrFromSlice(adapter.FirstGatewayAddress.Address.IP()); ok && addr.Unmap().Is4() {
			best, gateway = adapter.Ipv4Metric, addr.Unmap()
		}
	}
	if !gateway.IsValid() {
		return gateway, errors.New("no interface has a gateway")
	}
	return gateway, nil
}
