// The face of latent_map.LatentMap: a plotly figure that the kernel makes; a click plays what lies there.

function render({ model, el }) {
  const player = new Player(), root = make(el, "div", { className: "latent-map" });
  const heard = root.heard = [];  // {name, ms, sounds}: what was played, for the curious and for tests
  const begun = performance.now();
  let setup = null, flat = true, asked = 0, last = -1e9;
  const top = make(root, "div", { className: "row" });
  const colour = make(make(top, "label", {}, "colour "), "select", { className: "colour", onchange: () => show() });
  const space = make(top, "select", { className: "space", onchange: () => show() }, new Option("flat", 2), new Option("in space", 3));
  make(top, "small", { textContent: "A click plays a point (in space, hold it a moment); beside all points, on the flat map, what lies between its neighbours." });
  const status = make(root, "div", { className: "say" }), chart = make(root, "div", { className: "chart" });
  const say = (text, wrong = false) => { status.textContent = text; status.classList.toggle("wrong", wrong); };
  const show = () => { say("Drawing ..."); talk.ask({ do: "show", colour: colour.value, dimensions: +space.value }); };
  const click = (event) => {
    const again = performance.now() - last < 350;  // in space one click is told several times, and two reset the view
    last = performance.now();
    if (again) return;
    player.wake();
    asked = last;
    const point = event.points?.find((p) => p.customdata !== undefined && p.data.name !== "the instrument");
    if (point) talk.ask({ do: "point", row: +point.customdata });
    else if (flat && event.xvals?.length) talk.ask({ do: "place", x: +event.xvals[0], y: +event.yvals[0] });
  };

  const answers = {
    setup(m, [code]) {
      setup = m;
      if (code) new Function(new TextDecoder().decode(code))();  // sets window.Plotly
      colour.replaceChildren(...m.colours.map((c) => new Option(c, c)));
    },
    async figure(m, [json]) {
      const figure = JSON.parse(new TextDecoder().decode(json));
      flat = m.dimensions === 2;
      figure.layout.uirevision = m.dimensions;  // another colour keeps the view
      await window.Plotly.react(chart, figure.data, figure.layout, setup.config);
      if (!chart.clicks) { chart.clicks = true; chart.on("plotly_click", click); }
      root.drawn ??= performance.now() - begun;  // ms
      root.dataset.points = figure.data.length;
      say("");
    },
    sound(m, buffers) {
      if (!m.mine) return;
      const sounds = buffers.map(samples);
      sounds.forEach((x, i) => player.play(x, setup.rate, { alone: i === 0, delay: i * (x.length / setup.rate + 0.1) }));
      heard.push({ name: m.name, ms: performance.now() - asked, sounds });
      say(m.said);
    },
    here(m) {
      const at = m.at[flat ? 2 : 3], last = (chart.data?.length ?? 0) - 1;
      if (!at || last < 0) return;
      const place = Object.fromEntries(at.map((v, i) => ["xyz"[i], [[v]]]));
      window.Plotly.restyle(chart, place, [last]);
      root.dataset.here = at.join();
    },
  };
  const talk = converse(model, say, answers, { hello: { have: !!window.Plotly } });
  return () => { talk.close(); player.close(); if (chart.data) window.Plotly.purge(chart); };
}

export default { render };
