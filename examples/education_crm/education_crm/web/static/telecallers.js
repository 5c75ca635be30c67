// Keeps the order in which telecallers are chosen, and shows it.
const boxes = [...document.querySelectorAll("input[name=telecaller_ids]")];
const field = document.querySelector("[data-order]");
const everybody = document.querySelector("[data-everybody]");

if (field) {
  let order = field.value.split(",").filter((id) => boxes.some((box) => box.value === id && box.checked));

  const show = () => {
    field.value = order.join(",");

    for (const box of boxes) {
      const turn = order.indexOf(box.value);
      const label = box.closest("label");
      label.classList.toggle("chosen", box.checked);
      label.querySelector(".turn").textContent = turn < 0 ? "" : turn + 1;
    }

    everybody.textContent = boxes.every((box) => box.checked) ? "Choose nobody" : "Choose everybody";
  };

  const choose = (box, chosen) => {
    box.checked = chosen;
    order = order.filter((id) => id !== box.value);
    if (chosen) order.push(box.value);
  };

  for (const box of boxes) {
    if (box.checked && !order.includes(box.value)) order.push(box.value);
    box.addEventListener("change", () => {
      choose(box, box.checked);
      show();
    });
  }

  everybody.hidden = false;
  everybody.addEventListener("click", () => {
    const all = !boxes.every((box) => box.checked);
    for (const box of boxes) if (box.checked !== all) choose(box, all);
    show();
  });

  show();
}
