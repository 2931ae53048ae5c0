// Shows, on the map of the pool, the image under the pointer, or the one that the arrow keys have come to.
// Without this script the map is a drawing.
(() => {
  "use strict";
  const place = document.querySelector("[data-map]");
  if (!place) return;
  const drawing = place.querySelector("svg");
  const here = place.querySelector(".here");
  const tip = place.querySelector(".tip");
  const words = tip.querySelector("p");
  const picture = Object.assign(document.createElement("img"), { alt: "", width: 160, height: 160 });
  const said = document.getElementById("said");
  const NEAR = 24; // pixels
  let points = null;
  let link = "";
  let asking = null;
  let chosen = -1;
  let byKeys = false;

  const ask = () => {
    asking ??= fetch(place.dataset.map, { headers: { Accept: "application/json" } })
      .then((answer) => (answer.ok ? answer.json() : { points: [], folder: "", link: "" }))
      .then((found) => {
        link = found.link;
        points = found.points.map(([task, x, y, text, name]) => ({ task, x, y, text, image: name && found.folder + name }));
      })
      .catch(() => {
        asking = null; // the backend is being started again
      });
    return asking;
  };

  const scale = () => drawing.clientWidth / drawing.viewBox.baseVal.width;

  const hide = () => {
    chosen = -1;
    tip.hidden = true;
    here.setAttribute("d", "");
  };

  const show = (number, aloud) => {
    byKeys = aloud;
    if (number === chosen) return;
    chosen = number;
    const point = points[number];
    here.setAttribute("d", `M${point.x} ${point.y}h0`);
    picture.remove();
    if (point.image) {
      picture.src = point.image;
      tip.prepend(picture);
    }
    words.textContent = `Task ${point.task}: ${point.text}`;
    tip.hidden = false;
    const [x, y] = [point.x * scale(), point.y * scale()];
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    const left = x + 18 + width > place.clientWidth ? x - 18 - width : x + 18;
    tip.style.left = `${Math.max(0, Math.min(left, place.clientWidth - width))}px`;
    tip.style.top = `${Math.max(0, Math.min(y - height / 2, place.clientHeight - height))}px`;
    if (aloud) said.textContent = words.textContent;
  };

  const open = () => {
    if (chosen >= 0 && link) window.open(link + points[chosen].task, "_blank", "noopener,noreferrer");
  };

  // the nearest point for which `fits` holds; -1 if there is none
  const nearest = (x, y, fits) => {
    let [best, least] = [-1, Infinity];
    points.forEach((point, number) => {
      const [right, down] = [point.x - x, point.y - y];
      const distance = right * right + down * down;
      if (distance < least && fits(right, down, number)) [best, least] = [number, distance];
    });
    return best;
  };

  const under = (event) => {
    const box = drawing.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / scale(), (event.clientY - box.top) / scale()];
    const reach = NEAR / scale();
    return nearest(x, y, (right, down) => right * right + down * down < reach * reach);
  };

  const pointed = async (event) => {
    await ask();
    if (!points) return;
    const number = under(event);
    if (number >= 0) show(number, false);
    else hide();
  };

  const WAYS = {
    ArrowRight: (right, down) => right > 0 && Math.abs(down) <= right,
    ArrowLeft: (right, down) => right < 0 && Math.abs(down) <= -right,
    ArrowDown: (right, down) => down > 0 && Math.abs(right) <= down,
    ArrowUp: (right, down) => down < 0 && Math.abs(right) <= -down,
  };

  drawing.addEventListener("pointermove", pointed);
  drawing.addEventListener("click", async (event) => {
    await pointed(event);
    if (event.detail > 1) open();
  });
  drawing.addEventListener("pointerleave", () => byKeys || hide());
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", async (event) => {
    if (event.key === "Escape") return hide();
    if (event.key === "Enter") return open();
    if (!(event.key in WAYS)) return;
    event.preventDefault();
    await ask();
    if (!points || !points.length) return;
    const from = chosen;
    const next =
      from < 0
        ? nearest(drawing.viewBox.baseVal.width / 2, drawing.viewBox.baseVal.height / 2, () => true)
        : nearest(points[from].x, points[from].y, (right, down) => WAYS[event.key](right, down));
    if (next >= 0) show(next, true);
  });
})();
