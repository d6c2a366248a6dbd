'use strict';

// The sliders, also those that are added later.
function move(range) {
  const stage = range.parentElement;
  stage.style.setProperty('--cut', range.value + '%');
  const left = stage.querySelector('.left').dataset.label;
  const right = stage.querySelector('.right').dataset.label;
  const share = Math.round(range.value);
  range.setAttribute('aria-valuetext', share + '% ' + left + ', ' + (100 - share) + '% ' + right);
}
document.addEventListener('input', (event) => {
  if (event.target.matches('.stage input')) move(event.target);
});
