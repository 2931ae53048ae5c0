// Shows what runs as it runs: asks again and again for the part of the page that changes, and puts it in its place.
// Without this script the page is complete, as it was when it was loaded.
(() => {
  "use strict";
  const place = document.querySelector("[data-live]");
  if (!place) return;
  const said = document.getElementById("said");
  const loaded = { ...place.firstElementChild.dataset };
  let words = place.firstElementChild.dataset.said;
  let last = "";

  const show = (text) => {
    if (text === last || place.contains(document.activeElement)) return; // nobody loses the place where they are
    last = text;
    place.innerHTML = text; // from our own address, where every text from outside was escaped
    const now = place.firstElementChild.dataset;
    if (now.said !== words) said.textContent = words = now.said;
    for (const what of ["version", "replay"]) {
      const changed = document.getElementById(`${what}-changed`);
      if (changed && now[what] !== loaded[what]) changed.hidden = false;
    }
  };

  const look = async () => {
    try {
      if (!document.hidden) {
        const answer = await fetch(place.dataset.live, { headers: { Accept: "text/html" } });
        if (answer.ok) show(await answer.text());
      }
    } catch {
      // the backend is being started again: it is asked once more later
    }
    setTimeout(look, 1000 * Number(place.firstElementChild.dataset.seconds));
  };
  setTimeout(look, 1000 * Number(place.firstElementChild.dataset.seconds));
})();
