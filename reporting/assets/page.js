"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const { pictures, words, classes } = JSON.parse(document.getElementById("pictures").textContent);
  const byId = (id) => document.getElementById(id);
  const fill = (text, ...values) => text.replace(/\{(\d)\}/g, (_, i) => values[i]);
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  byId("theme").addEventListener("click", () => {
    const systemIsDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const viewer = byId("viewer");
  for (const button of document.querySelectorAll(".enlarge")) {
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      Object.assign(byId("large"), { src: image.src, alt: image.alt });
      byId("large-caption").textContent = image.alt;
      viewer.showModal();
    });
  }
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

  const strip = (picture, captions) => element("ul", { className: "strip" }, ...captions.map((caption, i) => {
    const face = element("span");
    face.style.backgroundImage = `url(${picture})`;
    face.style.backgroundSize = `${100 * captions.length}% 100%`;
    face.style.backgroundPosition = captions.length > 1 ? `${100 * i / (captions.length - 1)}% 0` : "0 0";
    return element("li", {}, face, caption);
  }));

  const names = Object.keys(classes);
  const cells = [...document.querySelectorAll(".cell")];
  cells.forEach((cell, at) => {
    cell.addEventListener("click", () => {
      cells.forEach((other) => other.setAttribute("aria-pressed", String(other === cell)));
      const [row, column] = cell.dataset.cell.split("-");
      const found = pictures.confusion[cell.dataset.cell];
      const title = fill(words.cell_of, classes[names[row]], classes[names[column]], found ? found.count : 0);
      const shown = found ? [element("p", {}, fill(words.surest, found.confidence.length, found.count)),
        strip(found.strip, found.confidence.map((share) => `${share} %`))] : [];
      byId("faces").replaceChildren(element("p", {}, title), ...shown);
    });
    cell.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -names.length, ArrowDown: names.length };
      const step = steps[event.key];
      if (step && cells[at + step]) {
        event.preventDefault();
        cells[at + step].focus();
      }
    });
  });

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const jet = (v) => [1.5 - Math.abs(4 * v - 3), 1.5 - Math.abs(4 * v - 2), 1.5 - Math.abs(4 * v - 1)]
    .map((part) => 255 * Math.min(Math.max(part, 0), 1));
  const paint = (canvas, face, color) => {
    Object.assign(canvas, { width: face.width, height: face.height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(face.width, face.height);
    for (let i = 0; i < face.width * face.height; i += 1) image.data.set([...color(i), 255], 4 * i);
    context.putImageData(image, 0, 0);
  };
  const show = () => {
    const face = pictures.saliency[byId("slider-face").value];
    const share = Number(byId("slider-share").value);
    const grey = bytes(face.grey);
    const strength = bytes(face.strength);
    const rank = new Uint16Array(bytes(face.rank).buffer);
    const mean = grey.reduce((sum, value) => sum + value, 0) / grey.length;
    const left = Math.round(share / 100 * grey.length);
    paint(byId("canvas-original"), face, (i) => [grey[i], grey[i], grey[i]]);
    paint(byId("canvas-heat"), face, (i) => jet(strength[i] / 255));
    paint(byId("canvas-masked"), face, (i) => Array(3).fill(rank[i] < left ? grey[i] : mean));
    const probability = face.kept[share].toFixed(2);
    byId("slider-output").textContent = fill(words.slider_text, classes[face.target], share, probability);
  };
  if (byId("slider-face")) {
    byId("slider-face").addEventListener("change", show);
    byId("slider-share").addEventListener("input", show);
    show();
  }

  const tiles = [...document.querySelectorAll(".tile")];
  for (const tile of tiles) {
    const [layer, at] = tile.dataset.tile.split("-");
    const reveal = () => {
      const found = pictures.filters[layer].tiles[at];
      tiles.filter((other) => other.dataset.tile.startsWith(`${layer}-`)).forEach((other) =>
        other.classList.toggle("chosen", other === tile));
      const title = fill(words.patches_of, found.filter, pictures.filters[layer].layer);
      byId(`patches-${layer}`).replaceChildren(element("p", {}, title),
        strip(found.patches, found.activations.map((value) => value.toFixed(2))));
    };
    ["mouseenter", "focus", "click"].forEach((name) => tile.addEventListener(name, reveal));
  }
})();
