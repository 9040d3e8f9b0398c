// What the faces of all widgets begin with: talk with the kernel, sound, small pictures.

const PATIENCE = 6000;  // ms without an answer after which the kernel counts as gone

const make = (parent, tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  parent?.append(node);
  return node;
};

const samples = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

// Talk between a page and its widgets.Answering: `answers` has a function for each thing that the kernel may say.
function converse(model, say, answers, { after = () => {}, gone = () => {}, hello = {} } = {}) {
  const tab = Math.random().toString(36).slice(2);
  let number = 0, answered = 0, ready = false, watch = null;
  const lost = () => {
    gone();
    say("The kernel does not answer. If a cell is running, wait for it; if the kernel was restarted or has ended: Run the cells again.", true);
  };
  const ask = (message, buffers = []) => {
    const n = ++number;
    clearTimeout(watch);
    watch = setTimeout(lost, PATIENCE);
    try { model.send({ ...message, tab, n }, undefined, buffers); }
    catch { clearTimeout(watch); lost(); }  // the channel is closed: the kernel was restarted
    return n;
  };
  const hear = (m, buffers) => {
    const mine = m.tab === tab;
    if (m.what === "setup" ? ready || !mine : !ready && !(m.what === "error" && mine)) return;
    ready ||= m.what === "setup";
    if (mine) { clearTimeout(watch); answered = Math.max(answered, m.n ?? 0); }
    if (m.what !== "error") answers[m.what]?.({ ...m, mine }, buffers);
    else if (mine) say(m.text, true);
    if (mine) after();
  };
  model.on("msg:custom", hear);
  say("Waiting for the kernel ...");
  ask({ do: "hello", ...hello });
  const greet = setInterval(() => (ready ? clearInterval(greet) : model.send({ do: "hello", ...hello, tab })), 1000);  // a page may be there before its channel
  const rest = () => ready && answered === number;  // nothing that was asked waits for its answer
  return { tab, ask, rest, close: () => { model.off("msg:custom", hear); clearInterval(greet); clearTimeout(watch); } };
}

// The number in a field; null, and a sentence, where there is none within the field's own bounds.
function numberIn(field, say) {
  const v = field.valueAsNumber, whole = field.step === "1";
  if (v >= +field.min && v <= +field.max && !(whole && v % 1)) return v;
  say(`The field "${field.title}" holds ${Number.isNaN(v) ? "no number" : v}, and a ${whole ? "whole " : ""}number from ${field.min} to ${field.max} is expected.`, true);
  return null;
}

// One thing sounds on a page at a time: whatever begins stops what did so before. players.py says the same of <audio>.
function sounding(player) {
  if (window.sounding !== player) window.sounding?.pause();
  window.sounding = player;
}

class Player {
  constructor() { this.playing = new Set(); }  // {source, gain, alone}
  wake() {  // browsers let sound begin after a click or a key only
    if (!this.context) {
      this.context = new AudioContext();
      this.out = new DynamicsCompressorNode(this.context, { threshold: -2, knee: 0, ratio: 20, attack: 0.001, release: 0.05 });
      this.out.connect(new GainNode(this.context, { gain: 0.9 })).connect(this.context.destination);  // it lets peaks of a millisecond over 1
    }
    if (this.context.state !== "running") this.context.resume();
    return this.context;
  }
  pause(which = () => true) {
    for (const one of [...this.playing].filter(which)) {
      one.gain.gain.setTargetAtTime(0, this.context.currentTime, 0.003);
      one.source.stop(this.context.currentTime + 0.03);
      this.playing.delete(one);
    }
  }
  play(x, rate, { semitones = 0, alone = true, delay = 0 } = {}) {  // alone: what of it was playing stops; else both sound, as pads do
    const context = this.wake(), buffer = context.createBuffer(1, x.length, rate);
    buffer.copyToChannel(x, 0);
    const source = new AudioBufferSourceNode(context, { buffer, playbackRate: 2 ** (semitones / 12) });
    const gain = new GainNode(context), one = { source, gain, alone: alone || delay > 0 };
    source.connect(gain).connect(this.out);
    sounding(this);
    if (alone) this.pause((other) => other.alone);
    source.start(context.currentTime + delay);
    this.playing.add(one);
    source.onended = () => this.playing.delete(one);
  }
  close() { this.pause(); this.context?.close(); }
}

function waveform(canvas, x) {
  const w = canvas.width = 1000, h = canvas.height = 70, g = canvas.getContext("2d"), step = x.length / w;
  g.strokeStyle = "#0072B2";
  g.beginPath();
  for (let i = 0; i < w; i++) {
    let low = 0, high = 0;
    for (let j = Math.floor(i * step); j < (i + 1) * step; j++) { low = Math.min(low, x[j]); high = Math.max(high, x[j]); }
    g.moveTo(i + 0.5, h / 2 - high * h / 2);
    g.lineTo(i + 0.5, h / 2 - low * h / 2 + 0.5);
  }
  g.stroke();
}

function fft(re, im) {  // in place, radix 2
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const c = Math.cos(-2 * Math.PI * k / size), s = Math.sin(-2 * Math.PI * k / size);
      for (let a = k; a < n; a += size) {
        const b = a + size / 2, r = re[b] * c - im[b] * s, i = re[b] * s + im[b] * c;
        re[b] = re[a] - r; im[b] = im[a] - i; re[a] += r; im[a] += i;
      }
    }
  }
}

function spectrogram(canvas, x, rate) {  // dB over time and logarithmic frequency from 40 Hz, 80 dB deep
  const size = 1024, frames = 160, rows = 96, low = 40;
  canvas.width = frames; canvas.height = rows;
  const g = canvas.getContext("2d"), image = g.createImageData(frames, rows), levels = new Float32Array(frames * rows);
  let top = 1e-9;
  for (let f = 0; f < frames; f++) {
    const re = new Float32Array(size), im = new Float32Array(size), start = Math.round(f * x.length / frames - size / 2);
    for (let i = 0; i < size; i++) re[i] = (x[start + i] || 0) * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / size));
    fft(re, im);
    for (let r = 0; r < rows; r++) {
      const bin = low * (rate / 2 / low) ** (r / (rows - 1)) / rate * size, k = Math.min(Math.round(bin), size / 2 - 1);
      const power = re[k] ** 2 + im[k] ** 2;
      levels[r * frames + f] = power;
      top = Math.max(top, power);
    }
  }
  for (let i = 0; i < levels.length; i++) {
    const v = Math.max(0, 1 + Math.log10(Math.max(levels[i] / top, 1e-12)) / 8);
    const at = ((rows - 1 - Math.floor(i / frames)) * frames + i % frames) * 4;
    image.data.set([255 * Math.min(1, 1.6 * v), 255 * v * v, 255 * (v < 0.5 ? v : Math.abs(1 - 1.2 * v)), 255], at);
  }
  g.putImageData(image, 0, 0);
}
