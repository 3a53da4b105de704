// The page of an independent WebRTC phone: JsSIP with a microphone that plays a
// file, and an ear that writes down which tones it hears.
import JsSIP from 'jssip';

const tell = (event, data = {}) => window.tell(JSON.stringify({ event, ...data }));

let ua;
let session;
let config;
let audio;
const heard = []; // { hz, db } every 50 ms while a remote stream is there

// listen follows the loudest frequency of a remote stream.
function listen(stream) {
  const element = new Audio();
  element.srcObject = stream; // Chromium decodes a remote stream only when an element takes it
  element.muted = true;
  element.play().catch((e) => tell('error', { text: `play: ${e}` }));
  audio ??= new AudioContext();
  audio.resume().catch((e) => tell('error', { text: `resume: ${e}` }));
  const analyser = new AnalyserNode(audio, { fftSize: 4096, smoothingTimeConstant: 0 });
  audio.createMediaStreamSource(stream).connect(analyser);
  const bins = new Float32Array(analyser.frequencyBinCount);
  const timer = setInterval(() => {
    analyser.getFloatFrequencyData(bins);
    let best = 0;
    for (let i = 1; i < bins.length; i += 1) if (bins[i] > bins[best]) best = i;
    heard.push({ hz: (best * audio.sampleRate) / analyser.fftSize, db: bins[best] });
  }, 50);
  return () => clearInterval(timer);
}

function follow(s) {
  session = s;
  let stop = () => {};
  s.on('peerconnection', ({ peerconnection }) => {
    peerconnection.addEventListener('track', (e) => { stop = listen(e.streams[0] ?? new MediaStream([e.track])); });
    peerconnection.addEventListener('connectionstatechange', () => tell('connection', { state: peerconnection.connectionState }));
  });
  // The gateway is ICE-lite: it needs none of our addresses.
  s.on('icecandidate', (e) => e.ready());
  s.on('accepted', () => tell('accepted'));
  s.on('confirmed', () => tell('confirmed'));
  s.on('hold', () => tell('hold'));
  s.on('unhold', () => tell('unhold'));
  s.on('failed', (e) => { stop(); tell('failed', { text: `${e.cause}` }); });
  s.on('ended', (e) => { stop(); tell('ended', { text: `${e.cause}` }); });
}

window.phone = {
  start(c) {
    config = c;
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(c.url)], uri: c.aor, authorization_user: c.username, password: c.password,
      realm: c.realm, register: true, user_agent: 'JsSIP',
    });
    ua.on('registered', () => tell('registered'));
    ua.on('registrationFailed', (e) => tell('registrationFailed', { text: `${e.cause}` }));
    ua.on('disconnected', (e) => tell('disconnected', { text: `${e.code} ${e.reason}` }));
    ua.on('newRTCSession', ({ originator, session: s, request }) => {
      follow(s);
      if (originator !== 'remote') return;
      tell('incoming', {
        from: s.remote_identity.uri.user, callId: request.getHeader('X-Cordboard-Call') ?? '',
        campaign: request.getHeader('X-Cordboard-Campaign') ?? '',
      });
    });
    ua.start();
  },
  answer() {
    session.answer({ mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: config.iceServers } });
  },
  hold: () => session.hold(),
  unhold: () => session.unhold(),
  digit: (d) => session.sendDTMF(d, { transportType: JsSIP.C.DTMF_TRANSPORT.RFC2833, duration: 120, interToneGap: 100 }),
  hangup: () => session.terminate(),
  stop: () => ua.stop(),
  // connect reports whether a WebSocket may be opened from this page.
  connect: (url) => new Promise((done) => {
    const ws = new WebSocket(url, 'sip');
    ws.onopen = () => { ws.close(); done(true); };
    ws.onerror = () => done(false);
  }),
  // heard returns how many milliseconds of a tone were heard since the last clear.
  heard: (hz) => heard.filter((h) => h.db > -50 && Math.abs(h.hz - hz) < 20).length * 50,
  loud: () => heard.filter((h) => h.db > -60).length * 50,
  clear() { heard.length = 0; },
  // codec is what the peer connection receives.
  async codec() {
    const stats = await session.connection.getStats();
    for (const r of stats.values()) {
      if (r.type === 'inbound-rtp' && r.codecId) return stats.get(r.codecId).mimeType;
    }
    return '';
  },
};
