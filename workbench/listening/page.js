// The face of listening_sheet.Sheet: consent, a code, practice, and votes on what was heard to its end.

const WORDS = ["Bad", "Poor", "Fair", "Good", "Excellent"], STILL_HERE = 8000;  // ms; less than a third of listening.LEASE
const SEAT = "listening";

// Who has a session is a seat, which a page hands to itself over a reload. It lies in storage only while no page is
// shown, so that a tab that is duplicated gets none.
function taken() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(SEAT)) ?? {};
    sessionStorage.removeItem(SEAT);
    return kept;
  } catch { return {}; }
}

function render({ model, el }) {
  const before = taken(), seat = before.seat ?? crypto.getRandomValues(new Uint32Array(3)).join("-");
  const root = make(el, "div", { className: "listening", tabIndex: -1 });
  root.dataset.lmSuppressShortcuts = "true";
  const head = make(root, "div"), body = make(root, "div"), status = make(root, "p", { className: "say" });
  status.setAttribute("role", "status");
  const heard = root.heard = [];  // {x}: what was played to its end, for tests
  let setup = null, code = "", context = null, playing = null, key = () => {}, away = false, sent = false;

  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  };
  const tell = (text, wrong) => say(away ? "The connection is lost; the votes given so far are kept. Reload this page, and go on with your code." : text, wrong);
  const wish = (message) => { if (sent) return; sent = true; talk.ask(message); };  // a second press of a key is no second vote

  // ---- sound, as it is: at the clips' own rate, without the limiter of the other widgets
  const stop = () => {
    if (!playing) return;
    playing.source.onended = null;
    playing.source.stop();
    playing.button.classList.remove("playing");
    playing = null;
  };
  const silent = { pause: () => stop() };
  const play = (button, x, ended) => {
    stop();
    context ??= new AudioContext({ sampleRate: setup.rate });
    context.resume();
    const buffer = context.createBuffer(1, x.length, setup.rate);
    buffer.copyToChannel(x, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    playing = { source, button };
    button.classList.add("playing");
    source.onended = () => { stop(); heard.push({ x }); ended(); };
    sounding(silent);
    source.start();
  };

  // ---- pages
  const page = (phase) => { stop(); root.dataset.phase = phase; body.replaceChildren(); key = () => {}; };
  const top = (m) => {
    head.replaceChildren();
    const row = make(head, "div", { className: "head" });
    make(row, "span", { textContent: m.practice ? `Practice ${m.number + 1} of ${m.of}, not counted` : `${m.number + 1} of ${m.of}` });
    make(row, "span", { title: "with this code you can go on later" }, "Your code: ", make(null, "b", { textContent: m.code }));
    const bar = make(head, "progress", { max: m.of, value: m.number });
    bar.setAttribute("aria-label", m.practice ? "practice" : "progress");
  };

  const consent = () => {
    page("consent");
    head.replaceChildren();
    make(body, "h2", { textContent: "A listening test" });
    for (const text of setup.consent.split("\n\n")) make(body, "p", { textContent: text });
    const agree = make(body, "div", { className: "row" });
    make(agree, "button", { className: "main begin", textContent: "I agree, begin", onclick: () => wish({ do: "begin", seat }) });
    make(body, "p", {}, "You were here before and have a code?");
    const again = make(body, "div", { className: "row" });
    const field = make(make(again, "label", {}, "Code "), "input", { className: "code", value: before.code ?? "", placeholder: "k7mq-42xd", autocomplete: "off", spellcheck: false });
    const resume = () => {
      if (field.value.trim()) wish({ do: "resume", code: field.value, seat });
      else say("No code came: type the one that this page showed at your last visit (it is like k7mq-42xd), or begin anew.", true);
    };
    make(again, "button", { className: "resume", textContent: "Go on", onclick: resume });
    field.onkeydown = (event) => { if (event.key === "Enter") resume(); };
  };

  const opinion = (m, [x]) => {
    make(body, "h2", { textContent: setup.question });
    const start = make(make(body, "div", { className: "row" }), "button", { className: "main play", textContent: "Play" });
    const votes = make(body, "div", { className: "votes" });
    votes.setAttribute("role", "group");
    votes.setAttribute("aria-label", setup.question);
    const buttons = [5, 4, 3, 2, 1].map((score) => make(votes, "button", { disabled: true, onclick: () => wish({ do: "vote", number: m.number, practice: m.practice, scores: [score] }) },
      make(null, "span", { textContent: WORDS[score - 1] }), make(null, "small", { textContent: score })));
    buttons.forEach((button, i) => { button.dataset.score = 5 - i; });
    const begin = () => { say("Listen to the end."); play(start, x, () => { buttons.forEach((b) => { b.disabled = false; }); start.textContent = "Play again"; say("Your opinion? A click, or a key from 1 to 5."); }); };
    start.onclick = begin;
    key = (event) => {
      if (event.key === " ") { if (event.target.tagName === "BUTTON") return false; begin(); return true; }
      if (!/^[1-5]$/.test(event.key)) return false;
      if (buttons[0].disabled) say("Listen to the end first.", true);
      else buttons[5 - event.key].click();
      return true;
    };
    say("");
    start.focus({ preventScroll: true });
  };

  const comparison = (m, [reference, ...others]) => {
    make(body, "h2", { textContent: setup.question });
    const sounds = [reference, ...others], played = sounds.map(() => false), rated = others.map(() => false);
    const ready = () => {
      const open = sounds.length - played.filter(Boolean).length, bare = rated.filter((r) => !r).length;
      next.disabled = open + bare > 0;
      say(open ? `${open} still to be heard to the end.` : bare ? `${bare} still to be rated.` : "Compare as often as you like, then go on.");
    };
    const button = (parent, i, text, name) => {
      const b = make(parent, "button", { textContent: text, onclick: () => play(b, sounds[i], () => { played[i] = true; b.classList.add("heard"); ready(); }) });
      b.setAttribute("aria-label", name);
      return b;
    };
    const row = make(body, "div", { className: "row" }), first = button(row, 0, "Reference", "play the reference");
    first.classList.add("main", "play");
    const scale = make(body, "div", { className: "scale" }, ...WORDS.map((word) => make(null, "span", { textContent: word })));
    scale.setAttribute("aria-hidden", "true");
    const sliders = others.map((_, i) => {
      const letter = String.fromCharCode(65 + i), line = make(body, "div", { className: "stimulus" });
      button(line, i + 1, letter, `play ${letter}`);
      const slider = make(line, "input", { type: "range", min: setup.low, max: setup.high, step: 1, value: (setup.low + setup.high) / 2 });
      const number = make(line, "output", { textContent: "–" });
      slider.setAttribute("aria-label", `${letter}: from ${setup.low}, bad, to ${setup.high}, excellent`);
      const rate = () => { rated[i] = true; number.textContent = slider.value; ready(); };
      slider.oninput = slider.onpointerup = rate;
      slider.onkeydown = (event) => { if (/^(Arrow|Page|Home|End)/.test(event.key)) requestAnimationFrame(rate); };
      return slider;
    });
    const next = make(make(body, "div", { className: "row" }), "button", { className: "main next", textContent: "Next", onclick: () => wish({ do: "vote", number: m.number, practice: m.practice, scores: sliders.map((s) => +s.value) }) });
    key = (event) => {
      const i = event.key === "0" || event.key.toLowerCase() === "r" ? 0 : event.key.toLowerCase().charCodeAt(0) - 96;
      if (event.key.length > 1 || !(i >= 0 && i < sounds.length)) return false;
      body.querySelectorAll(".play, .stimulus button")[i].click();
      return true;
    };
    ready();
    first.focus({ preventScroll: true });
  };

  // ---- answers
  const answers = {
    setup(m) { setup = m; consent(); say(""); },
    trial(m, buffers) {
      if (!m.mine) return;
      code = m.code;
      page(m.practice ? "practice" : "rated");
      root.dataset.number = m.number;
      top(m);
      (setup.kind === "mushra" ? comparison : opinion)(m, buffers.map(samples));
    },
    held(m) { if (m.mine && away) say(""); },
    end(m) {
      if (!m.mine) return;
      page("end");
      code = "";
      head.replaceChildren();
      make(body, "h2", { textContent: "Thank you, that was all." });
      make(body, "p", { textContent: `Your votes are kept under the code ${m.code}. You may close this page.` });
      say("");
    },
  };
  root.onkeydown = (event) => {
    event.stopPropagation();  // JupyterLab would take the keys for its own
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input")) return;
    if (key(event)) event.preventDefault();
  };
  const talk = converse(model, tell, answers, { after: () => { away = sent = false; }, gone: () => { away = true; } });
  const alive = setInterval(() => { if (code) talk.ask({ do: "hold" }); }, STILL_HERE);
  const keep = () => { try { sessionStorage.setItem(SEAT, JSON.stringify({ seat, code })); } catch { /* the listener has the code */ } };
  addEventListener("pagehide", keep);
  return () => {
    if (code) talk.ask({ do: "leave" });
    removeEventListener("pagehide", keep);
    clearInterval(alive);
    stop();
    talk.close();
    context?.close();
  };
}

export default { render };
