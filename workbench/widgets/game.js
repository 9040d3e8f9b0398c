// The blind game of widgets.real_or_made: takes a guess on what was played to its end, counts right ones and says the interval that they allow (Wilson, 1927).
for (const game of document.querySelectorAll(".real-or-made:not([data-ready])")) {
  game.dataset.ready = "yes";
  const key = JSON.parse(game.dataset.key);
  let right = 0, done = 0;
  game.querySelectorAll(".trial").forEach((trial, i) => {
    const [real, made] = trial.querySelectorAll("button"), clip = trial.querySelector("audio");
    let open = true;
    clip.addEventListener("ended", () => {
      let length = 0;  // of what was played; a leap ahead leaves a part out
      for (let n = 0; n < clip.played.length; n++) length += clip.played.end(n) - clip.played.start(n);
      if (open) real.disabled = made.disabled = length < 0.95 * clip.duration;
    });
    const guess = (saysReal) => {
      real.disabled = made.disabled = true;
      open = false;
      const hit = saysReal === key[i];
      done += 1;
      right += hit;
      trial.querySelector("output").textContent = (hit ? "right: " : "wrong: ") + (key[i] ? "real" : "made");
      const p = right / done, z = 1.96, d = 1 + z * z / done;
      const middle = (p + z * z / (2 * done)) / d, half = z / d * Math.sqrt(p * (1 - p) / done + z * z / (4 * done * done));
      const percent = (x) => Math.round(100 * x) + " %";
      game.querySelector(".tally").textContent = `${right} of ${done} right: ${percent(p)} (95 % interval ` +
        `${percent(middle - half)} to ${percent(middle + half)}). ` +
        (done < key.length ? `${key.length - done} to go.` : middle - half > 0.5 ? "You can tell them apart." : "Chance, 50 %, is not ruled out.");
    };
    real.onclick = () => guess(true);
    made.onclick = () => guess(false);
  });
}
