package media

import (
	"fmt"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/cordboard/cordboard/gateway/media/sdp"
)

// replayWindow is how far behind the newest packet one may come (RFC 3711 section 3.3.2).
const replayWindow = 128

// cipher protects or opens one direction of a leg. RTP and RTCP have contexts
// of their own, because they may be used at the same time.
type cipher struct {
	rtp, rtcp *srtp.Context
	hdr       rtp.Header  // scratch of the RTP goroutine
	rtcpHdr   rtcp.Header // scratch of the RTCP goroutine
}

func newCipher(key, salt []byte, profile srtp.ProtectionProfile) (*cipher, error) {
	var c cipher
	var err error
	opts := []srtp.ContextOption{srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow)}
	if c.rtp, err = srtp.CreateContext(key, salt, profile, opts...); err != nil {
		return nil, fmt.Errorf("srtp context: %w", err)
	}
	if c.rtcp, err = srtp.CreateContext(key, salt, profile, opts...); err != nil {
		return nil, fmt.Errorf("srtcp context: %w", err)
	}
	return &c, nil
}

// open decrypts in place.
func (c *cipher) open(b []byte) ([]byte, error) { return c.rtp.DecryptRTP(b[:0], b, &c.hdr) }

// seal encrypts in place; b needs room for the tag behind it.
func (c *cipher) seal(b []byte) ([]byte, error) { return c.rtp.EncryptRTP(b[:0], b, &c.hdr) }

// openRTCP decrypts into a buffer of its own.
func (c *cipher) openRTCP(b []byte) ([]byte, error) { return c.rtcp.DecryptRTCP(nil, b, &c.rtcpHdr) }

// sealRTCP encrypts into a buffer of its own.
func (c *cipher) sealRTCP(b []byte) ([]byte, error) { return c.rtcp.EncryptRTCP(nil, b, &c.rtcpHdr) }

// sdesCipher makes the cipher of an a=crypto line.
func sdesCipher(c sdp.Crypto) (*cipher, error) {
	key, salt, err := c.Keys()
	if err != nil {
		return nil, fmt.Errorf("sdes: %w", err)
	}
	var profile srtp.ProtectionProfile
	switch c.Suite {
	case sdp.AES128SHA1Tag80:
		profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	case sdp.AES128SHA1Tag32:
		profile = srtp.ProtectionProfileAes128CmHmacSha1_32
	case sdp.AEADAES128GCM:
		profile = srtp.ProtectionProfileAeadAes128Gcm
	case sdp.AEADAES256GCM:
		profile = srtp.ProtectionProfileAeadAes256Gcm
	default:
		return nil, fmt.Errorf("sdes suite %q: %w", c.Suite, sdp.ErrCrypto)
	}
	return newCipher(key, salt, profile)
}
