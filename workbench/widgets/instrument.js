// The face of instrument.Instrument: asks its kernel for sounds, plays them, draws them.
// One move is under way at a time; while it is, only the newest position waits.

const KEYS = "awsedftgyhujk";  // a piano's octave from c to c on the middle row: the last pad, transposed

function render({ model, el }) {
  const player = new Player();
  const root = make(el, "div", { className: "instrument", tabIndex: 0 });
  root.dataset.lmSuppressShortcuts = "true";  // JupyterLab would delete cells at "d d"
  const heard = root.heard = [];  // {n, name, ms, x}: what was played, for the curious and for tests
  let setup = null, shown = "", amounts = {}, labels = [], current = null, pads = [], last = 0;
  let gesture = 0, touched = 0, pending = null, waiting = false, path = [], recording = false, around = null, timers = [];
  const locked = {};  // of each kind of axes, which sliders may not move

  const say = (text, wrong = false) => { status.textContent = text; status.classList.toggle("wrong", wrong); };
  const times = new Map();
  const still = () => timers.splice(0).forEach(clearTimeout);  // a hand ends what is being replayed
  const act = (message, buffers) => {
    still();
    player.wake();
    const n = talk.ask(message, buffers);
    times.set(n, performance.now());
    return n;
  };
  const send = (message) => {  // the newest place, as soon as the one before is heard
    player.wake();
    pending = { message: { ...message, gesture: `${talk.tab}-${gesture}` }, at: performance.now() };
    if (!waiting) next();
  };
  const note = () => recording && path.push({ at: performance.now(), axes: shown, values: [...amounts[shown]], labels: [...labels] });
  const move = () => { note(); send({ do: "move", axes: shown, amounts: [...amounts[shown]], labels: [...labels] }); };
  const next = () => {
    if (!pending) { waiting = false; return; }
    const { message, at } = pending;
    pending = null;
    waiting = true;
    times.set(talk.ask(message), at);
  };

  // ---- starts
  const top = make(root, "div", { className: "row" });
  const label = make(top, "select", { title: "label of a draw or a clip" });
  const temperature = make(make(top, "label", {}, "temperature "), "input", { type: "number", min: 0, step: 0.1, value: 1, title: "temperature of a draw", style: "width:4em" });
  make(top, "button", { className: "draw", textContent: "draw", title: "a new sound from the prior", onclick: () => {
    const t = numberIn(temperature, say);
    if (t !== null) act({ do: "draw", label: label.value, temperature: t });
  } });
  const fetch = () => act({ do: "clip", label: label.value, like: like.value });
  make(top, "button", { className: "clip", textContent: "clip", title: "a clip of the store, as the model gives it back: any of this label and name", onclick: fetch });
  const like = make(top, "input", { className: "like", placeholder: "part of its name", style: "width:9em", onkeydown: (event) => { if (event.key === "Enter") fetch(); } });
  const file = make(make(top, "label", {}, "file "), "input", { type: "file", accept: "audio/*", className: "file" });
  file.onchange = async () => {
    const chosen = file.files[0];
    if (!chosen) return;
    if (chosen.size > 50e6) return say(`${chosen.name} has ${(chosen.size / 1e6).toFixed(0)} MB, and 50 MB are taken at most; cut it first.`, true);
    act({ do: "upload", name: chosen.name }, [await chosen.arrayBuffer()]);
    file.value = "";
  };
  const name = make(top, "span", { className: "name" });
  const wave = make(root, "canvas", { className: "wave" }), spectrum = make(root, "canvas", { className: "spectrum" });

  // ---- what can be done with the current sound
  const bar = make(root, "div", { className: "row" });
  const button = (text, title, onclick) => make(bar, "button", { textContent: text, title, onclick, className: text.split(" ")[0].toLowerCase() });
  button("play", "the current sound (space)", () => current && player.play(current, setup.rate));
  button("A/B", "the start, to compare", () => act({ do: "start" }));
  const undo = button("undo", "", () => act({ do: "undo" })), redo = button("redo", "", () => act({ do: "redo" }));
  button("around", "random moves along all axes that are not locked", () => {
    around = act({ do: "random", axes: shown, size: +size.value, free: setup.axes[shown].names.map((_, i) => i).filter((i) => !locked[shown].has(i)) }); });
  const size = make(make(bar, "label", {}, "by "), "input", { type: "range", min: 0.05, max: 1.5, step: 0.05, value: 0.5, title: "how far around", style: "width:80px" });
  const record = button("record", "the moves of the sliders, until it is pressed again", () => {
    recording = record.classList.toggle("on");
    if (recording) path = [];
    say(recording ? "Recording the sliders' moves; press record again to end." : path.length
      ? `A path of ${path.length} moves, ${((path.at(-1).at - path[0].at) / 1000).toFixed(1)} s: replay plays it, from any sound.` : "No slider was moved.");
  });
  button("replay", "the recorded path, from the current start", () => {
    if (recording || !path.length) return say("There is no path yet: press record, move sliders, and press record again.");
    still();
    gesture += 1;
    timers = path.map(({ at, axes, values, labels: weights }, i) => setTimeout(() => {
      if (i === path.length - 1) timers = [];
      if (axes !== shown) { shown = kind.value = axes; sliders(); }
      amounts[shown] = [...values];
      labels = [...weights];
      stand();
      move();
    }, at - path[0].at));
  });
  button("save", "a WAV file at full quality", () => act({ do: "save" }));
  button("star", "remember it in the run: 3_draw and 7_report show it again", () => act({ do: "star" }));
  button("pack", "all pads as a sample pack", () => act({ do: "pack" }));
  const status = make(root, "div", { className: "say" });

  // ---- axes
  const columns = make(root, "div", { className: "columns" });
  const left = make(columns, "div", { style: "flex:1 1 460px" });
  const choose = make(left, "div", { className: "row" });
  const kind = make(choose, "select", { title: "which axes", className: "kind", onchange: () => { shown = kind.value; sliders(); } });
  const keep = make(make(choose, "label", { title: "keep the first k principal directions of the sound, the others at the mean" }, "keep "), "input", { type: "number", min: 1, step: 1, title: "how many principal directions are left", style: "width:4em" });
  const fidelity = make(choose, "small");
  keep.onchange = () => {
    const k = numberIn(keep, say);
    if (k !== null) act({ do: "keep", k });
  };
  const morph = make(left, "div", { className: "row morph" }), list = make(left, "div", { className: "sliders" });
  const grab = (event) => {  // one gesture is one step back; so are keys in close succession
    still();
    if (event.type !== "keydown" || event.timeStamp - touched > 1000) gesture += 1;
    touched = event.timeStamp;
  };
  const sliders = () => {
    list.replaceChildren();
    const axes = setup.axes[shown];
    amounts[shown] ??= axes.names.map(() => 0);
    locked[shown] ??= new Set();
    const lock = locked[shown];
    axes.names.forEach((text, i) => {
      const row = make(list, "div", { className: "slider" });
      const box = make(row, "input", { type: "checkbox", title: "lock", checked: lock.has(i) });
      box.onchange = () => { lock[box.checked ? "add" : "delete"](i); slider.disabled = box.checked; };
      make(row, "span", { textContent: text, title: axes.effects[i] });
      const slider = make(row, "input", { type: "range", min: -3, max: 3, step: 0.01, value: amounts[shown][i], disabled: lock.has(i), onpointerdown: grab, onkeydown: grab });
      const number = make(row, "span", { textContent: (+slider.value).toFixed(2) });
      slider.oninput = () => { amounts[shown][i] = +slider.value; number.textContent = (+slider.value).toFixed(2); spot(); move(); };
      slider.ondblclick = () => { slider.value = 0; slider.oninput(); };
      make(row, "small", { textContent: axes.effects[i] });
    });
    if (axes.note) make(list, "small", { textContent: axes.note });
    for (const select of [across, up]) select.replaceChildren(...axes.names.map((text, i) => new Option(text, i)));
    up.value = Math.min(1, axes.names.length - 1);
    spot();
  };
  const stand = () => {  // sliders follow the state
    [...list.querySelectorAll(".slider")].forEach((row, i) => {
      row.querySelector("input[type=range]").value = amounts[shown][i];
      row.querySelectorAll("span")[1].textContent = amounts[shown][i].toFixed(2);
    });
    spot();
  };

  // ---- two axes at once, and a plane between four pads
  const right = make(columns, "div");
  const plane = (title, drag) => {
    const box = make(right, "div"), head = make(box, "div", { className: "row" }, title);
    const canvas = make(box, "canvas", { width: 180, height: 180, style: "touch-action:none;cursor:crosshair", className: title });
    const at = (event) => {
      const r = canvas.getBoundingClientRect();
      return [(event.clientX - r.left) / r.width, (event.clientY - r.top) / r.height].map((v) => Math.min(Math.max(v, 0), 1));
    };
    canvas.onpointerdown = (event) => { grab(event); canvas.setPointerCapture(event.pointerId); drag(...at(event)); };
    canvas.onpointermove = (event) => { if (event.buttons) drag(...at(event)); };
    const dot = (x, y, there = true) => {  // a ring where the sound lies nowhere on it
      const g = canvas.getContext("2d");
      g.clearRect(0, 0, 180, 180);
      g.strokeStyle = "#e3e3e3";
      g.strokeRect(90, 0, 0, 180);
      g.strokeRect(0, 90, 180, 0);
      g.fillStyle = g.strokeStyle = "#D55E00";
      g.beginPath();
      g.arc(x * 180, y * 180, 6, 0, 7);
      there ? g.fill() : g.stroke();
    };
    return { head, dot };
  };
  const xy = plane("XY", (x, y) => {
    if (!locked[shown].has(+across.value)) amounts[shown][+across.value] = 6 * x - 3;
    if (!locked[shown].has(+up.value)) amounts[shown][+up.value] = 3 - 6 * y;
    stand();
    move();
  });
  const across = make(xy.head, "select", { onchange: () => spot() }), up = make(xy.head, "select", { onchange: () => spot() });
  const spot = () => xy.dot((amounts[shown][+across.value] + 3) / 6, (3 - amounts[shown][+up.value]) / 6);
  const between = plane("plane", (x, y) => {
    between.dot(x, y);
    send({ do: "plane", corners: corners.map((c) => +c.value), at: [x, y] });
  });
  const corners = ["\u2196 upper left", "\u2197 upper right", "\u2199 lower left", "\u2198 lower right"].map((title) => make(make(between.head, "label", { title }, title[0]), "select"));

  // ---- pads
  make(root, "div", { className: "row" }, make(null, "small", { textContent:
    "Pads: click or press 1 to 8 to play; right click or shift and the digit puts the current sound there; the keys a w s e d f t g y h u j k play the last pad as an octave." }));
  const rack = make(root, "div", { className: "pads" });
  const hit = (i, semitones = 0) => {
    if (!pads[i]) return say(`Pad ${i + 1} is empty: right click, or shift and ${i + 1}, puts the current sound there.`);
    last = i;
    rack.querySelectorAll(".pad").forEach((p, j) => p.classList.toggle("last", j === i));
    player.play(pads[i].x, setup.rate, { semitones, alone: false });
    heard.push({ pad: i, semitones, name: pads[i].name, x: pads[i].x });
  };
  const put = (i) => act({ do: "pad", pad: i });
  root.onkeydown = (event) => {
    event.stopPropagation();  // JupyterLab would move to the next cell at an arrow
    if (!setup || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=number], input.like, select")) return;
    const digit = /^Digit([1-8])$/.exec(event.code), key = event.shiftKey ? -1 : KEYS.indexOf(event.key.toLowerCase());
    if (digit) event.shiftKey ? put(digit[1] - 1) : hit(digit[1] - 1);
    else if (key >= 0) event.repeat || hit(last, key);
    else if (event.key === " " && !event.target.matches("button, input")) current && player.play(current, setup.rate);
    else return;
    event.preventDefault();
  };

  // ---- answers
  const answers = {
    setup(m) {
      setup = m;
      label.replaceChildren(new Option("any label", ""), ...m.labels.map((l) => new Option(l, l)));
      kind.replaceChildren(...Object.keys(m.axes).map((a) => new Option(a, a)));
      keep.max = keep.value = m.share.length;
      temperature.max = m.hottest;
      shown = kind.value;
      for (let i = 0; i < m.pads; i++)
        make(rack, "button", { className: "pad", textContent: i + 1, onclick: () => { player.wake(); hit(i); }, oncontextmenu: (e) => { e.preventDefault(); put(i); } });
      corners.forEach((select, i) => { select.replaceChildren(...[...Array(m.pads).keys()].map((p) => new Option(p + 1, p))); select.value = i; });
      m.morph.forEach((l, i) => {
        const slider = make(make(morph, "label", {}, l), "input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, style: "width:80px", onpointerdown: grab, onkeydown: grab });
        slider.oninput = () => { labels[i] = +slider.value; move(); };
      });
      sliders();
      say("");
    },
    sound(m, [bytes]) {
      const x = samples(bytes);
      current = x;
      const mine = m.mine;
      if (mine && !m.quiet) {
        player.play(x, setup.rate);
        heard.push({ n: m.n, name: m.name, ms: performance.now() - times.get(m.n), x });
      }
      if (!(mine && pending)) {  // else the hand is further on
        for (const a in amounts) amounts[a] = amounts[a].map(() => 0);
        if (m.axes && m.axes !== shown && setup.axes[m.axes]) { shown = kind.value = m.axes; amounts[shown] = [...m.amounts]; sliders(); }
        else if (m.axes) amounts[shown] = [...m.amounts];
        stand();
        m.at ? between.dot(...m.at) : between.dot(0.5, 0.5, false);
      }
      if (m.labels.length && !(mine && pending)) { labels = [...m.labels]; morph.querySelectorAll("input").forEach((s, i) => { s.value = labels[i]; }); }
      if (mine && m.n === around) note();
      keep.value = m.kept;
      fidelity.textContent = m.kept < setup.share.length ? `directions: ${(100 * setup.share[m.kept - 1]).toFixed(0)} % of the training clips' variance` : "";
      name.textContent = m.name;
      undo.disabled = !m.undo;
      redo.disabled = !m.redo;
      root.dataset.sound = m.name;
      requestAnimationFrame(() => { if (current === x) { waveform(wave, x); spectrogram(spectrum, x, setup.rate); } });
      if (mine) say(m.said || "");
    },
    pad(m, [bytes]) {
      const x = samples(bytes);
      pads[m.pad] = { x, name: m.name };
      const pad = rack.children[m.pad];
      pad.classList.add("full");
      pad.textContent = `${m.pad + 1} ${m.name}`;
      if (m.mine) say(`Pad ${m.pad + 1} holds ${m.name}.`);
    },
    start(m, [bytes]) { if (m.mine) player.play(samples(bytes), setup.rate); },
    saved(m, [bytes]) {
      if (!m.mine) return;
      say(m.text + " ");
      make(status, "a", { textContent: "download", download: m.file, href: URL.createObjectURL(new Blob([bytes], { type: "audio/wav" })) });
    },
    said(m) { if (m.mine) say(m.text); },
  };
  const talk = converse(model, say, answers, { after: () => waiting && next(), gone: () => { waiting = false; } });
  root.rest = () => talk.rest() && !pending && !timers.length;  // for tests: what was asked is what stands here
  return () => { talk.close(); player.close(); };
}

export default { render };
