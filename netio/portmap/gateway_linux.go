package portmap

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultGateway is the one of the network namespace that the thread is in. Android does not say.
func defaultGateway() (netip.Addr, error) {
	table, err := os.ReadFile("/proc/thread-self/net/route")
	if err != nil {
		return netip.Addr{}, err
	}
	return gatewayIn(string(table))
}

// gatewayIn finds the gateway of the best default route in the kernel's table: columns are interface, destination,
// gateway, flags, reference count, use, metric, mask; addresses are hexadecimal, in this machine's byte order.
func gatewayIn(table string) (gateway netip.Addr, err error) {
	best := uint64(math.MaxUint64)
	for line := range strings.Lines(table) {
		columns := strings.Fields(line)
		if len(columns) < 8 || columns[1] != "00000000" || columns[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(columns[3], 16, 16)
		metric, err2 := strconv.ParseUint(columns[6], 10, 32)
		raw, err3 := hex.DecodeString(columns[2])
		if errors.Join(err, err2, err3) != nil || len(raw) != 4 || flags&unix.RTF_UP == 0 || flags&unix.RTF_GATEWAY == 0 || metric >= best {
			continue
		}
		var addr [4]byte
		binary.NativeEndian.PutUint32(addr[:], binary.BigEndian.Uint32(raw))
		best, gateway = metric, netip.AddrFrom4(addr)
	}
	if !gateway.IsValid() {
		return gateway, errors.New("no default route by a gateway")
	}
	return gateway, nil
}
