"use strict";
(() => {
  const steps = [...document.querySelectorAll(".step")];
  const links = [...document.querySelectorAll(".lanes a, .time a")];
  const chapters = [...document.querySelectorAll(".chapters a")];
  const where = document.querySelector(".where");
  const announce = document.querySelector(".announce");
  const buttons = [...document.querySelectorAll("[data-move]")];
  let at = -1;

  const chapterOf = (step) => step.closest(".chapter");
  const mark = (element, on) => {
    element.classList.toggle("current", on);
    if (on) element.setAttribute("aria-current", "step");
    else element.removeAttribute("aria-current");
  };

  const show = (to, say) => {
    to = Math.max(0, Math.min(steps.length - 1, to));
    if (to === at) return;
    const step = steps[to], chapter = chapterOf(step);
    const focused = document.activeElement;
    const sameChapter = at >= 0 && chapterOf(steps[at]) === chapter;
    at = to;
    steps.forEach((other) => mark(other, other === step));
    document.querySelectorAll(".chapter").forEach((other) => other.classList.toggle("current", other === chapter));
    links.forEach((link) => mark(link, link.hash === "#" + step.id));
    chapters.forEach((link) => mark(link, document.querySelector(link.hash)?.closest(".chapter") === chapter));
    const here = steps.filter((other) => chapterOf(other) === chapter);
    const name = chapter.dataset.name;
    const place = here.length > 1 ? `${name}, step ${here.indexOf(step) + 1} of ${here.length}` : name;
    where.textContent = place;
    buttons.forEach((button) => button.setAttribute("aria-disabled", !steps[at + Number(button.dataset.move)]));
    if (location.hash !== "#" + step.id && say) history.replaceState(null, "", "#" + step.id);
    if (say) announce.textContent = `${place}. ${step.dataset.say ?? ""}`;
    const link = links.find((other) => other.hash === "#" + step.id && other.closest(".lanes"));
    const list = link?.closest(".lanes");
    // The focus stays with the step that is shown.
    if (focused.closest(".lanes") && link) link.focus({ preventScroll: true });
    else if (focused.closest(".chapter")) step.querySelector("h2").focus({ preventScroll: true });
    if (list && list.scrollHeight > list.clientHeight) {
      list.scrollTop = link.offsetTop - list.offsetTop - list.clientHeight / 2;
    }
    if (!sameChapter || step.getBoundingClientRect().top < 0) window.scrollTo(0, 0);
  };
  const move = (by) => show(at + by, true);
  const fromHash = () => steps.findIndex((step) => "#" + step.id === location.hash);

  document.documentElement.classList.add("js");
  buttons.forEach((button) => button.addEventListener("click", () => move(Number(button.dataset.move))));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    const to = link ? steps.findIndex((step) => "#" + step.id === link.hash) : -1;
    if (to < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(to, true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === " " && event.target.closest?.("button")) return;
    const moves = {
      ArrowRight: 1, j: 1, " ": 1, ArrowLeft: -1, k: -1, Home: -steps.length, End: steps.length,
    };
    const by = moves[event.key];
    if (!by) return;
    event.preventDefault();
    move(by);
  });
  let touch = null;
  document.addEventListener("touchstart", (event) => {
    const [point] = event.touches;
    touch = event.touches.length === 1 ? { x: point.clientX, y: point.clientY } : null;
  }, { passive: true });
  document.addEventListener("touchend", (event) => {
    if (!touch) return;
    const [point] = event.changedTouches;
    const x = point.clientX - touch.x, y = point.clientY - touch.y;
    if (Math.abs(x) > 60 && Math.abs(x) > 2 * Math.abs(y)) move(x < 0 ? 1 : -1);
  }, { passive: true });
  window.addEventListener("hashchange", () => { const to = fromHash(); if (to >= 0) show(to, true); });
  show(Math.max(0, fromHash()), false);
})();
