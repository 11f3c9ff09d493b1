// Package messages holds what conec says: the protobuf messages of package
// conec.v1, the errors that users decide on, and the table between the two.
//
// # Use
//
// Compare errors of packages client, coord and netio with the sentinels here:
//
//	if errors.Is(err, messages.ErrNoSuchPeer) { … }
//
// and take who and where from [OpError]:
//
//	var op *messages.OpError
//	if errors.As(err, &op) && op.Remote { … } // the other side decided it
//
// # Naming and versions
//
// Commands are imperatives (OpenStream), events are past participles
// (StreamOpened). The protocol's version is its ALPN string ([ALPNHome],
// [ALPNChannel]): two sides that offer different ones do not connect. Inside a
// version, fields and enum values are only appended. Code that is generated
// from the .proto files lies beside them; `make generate` writes it.
//
// # Concurrency
//
// Everything here is immutable; a message is never changed after it was sent.
//
// # Limits
//
// Names are at most [MaxName] bytes, reasons at most [MaxReason] bytes,
// purposes at most [MaxPurpose] bytes, patterns of names at most [MaxPattern] bytes,
// and what a client publishes about itself at most [MaxMetadata] bytes.
//
// # Testing
//
// The table between codes and errors is tested in both directions.
package messages
