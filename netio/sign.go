package netio

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/conec-go/conec/messages"
)

// Sign signs text with the identity's key. What a key signs must say what it is for, so
// that it can not be taken for something else: the text begins with that.
func (i *Identity) Sign(text []byte) ([]byte, error) {
	signer, ok := i.certificate.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("identity: the key can not sign")
	}
	_, hash, err := signatureOf(i.Certificate())
	if err != nil {
		return nil, err
	}
	var options crypto.SignerOpts = hash
	if _, isRSA := i.Certificate().PublicKey.(*rsa.PublicKey); isRSA {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return crypto.SignMessage(signer, rand.Reader, text, options)
}

// CheckSignature checks what the owner of a certificate made with [Identity.Sign].
func CheckSignature(certificate *x509.Certificate, text, signature []byte) error {
	algorithm, _, err := signatureOf(certificate)
	if err == nil {
		err = certificate.CheckSignature(algorithm, text, signature)
	}
	if err != nil {
		return untrusted("signature: %v", err)
	}
	return nil
}

// signatureOf says how the key of a certificate signs. There is one way for each kind.
func signatureOf(certificate *x509.Certificate) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch key := certificate.PublicKey.(type) {
	case ed25519.PublicKey:
		return x509.PureEd25519, 0, nil
	case *rsa.PublicKey:
		return x509.SHA256WithRSAPSS, crypto.SHA256, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		case elliptic.P521():
			return x509.ECDSAWithSHA512, crypto.SHA512, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: keys of kind %s are not used", messages.ErrUntrusted, DescribeKey(certificate))
}

// CheckPeriod reports whether now is within a certificate's validity.
func CheckPeriod(certificate *x509.Certificate, now time.Time) error {
	return checkPeriod(certificate, now)
}
