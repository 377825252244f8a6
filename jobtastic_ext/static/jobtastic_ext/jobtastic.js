// jobtastic_ext, MIT. Made by `make client` from client.
const own=(kind,name)=>
Object.getOwnPropertyDescriptor(globalThis[kind]?.prototype??{},name);
const create=(tag)=>own('Document','createElement').value.call(globalThis.document,tag);
function isHidden(){
const page=globalThis.document;
const said=page?.hidden;
return typeof said==='boolean'?said:!!own('Document','hidden')?.get.call(page);
}
function listen(target,name,handler,signal){
const add=globalThis.Document?EventTarget.prototype.addEventListener:target?.addEventListener;
add?.call(target,name,handler,{signal});
}
const css=`
:host{--_accent:var(--jobtastic-accent,#2563eb);--_success:var(--jobtastic-success,#15713a);--_failure:var(--jobtastic-failure,#c81e1e);--_track:var(--jobtastic-track,color-mix(in srgb,currentColor 13%,transparent));--_muted:var(--jobtastic-muted,color-mix(in srgb,currentColor 78%,transparent));--_tone:var(--_accent);display:block;max-inline-size:40rem;line-height:1.45;}@supports (color:light-dark(red,red)){:host{--_accent:var(--jobtastic-accent,light-dark(#2563eb,#6ea8ff));--_success:var(--jobtastic-success,light-dark(#15713a,#4ade80));--_failure:var(--jobtastic-failure,light-dark(#c81e1e,#ff8a80));}}:host([hidden]){display:none;}:host([state=success]){--_tone:var(--_success);}:host([state=failure]){--_tone:var(--_failure);}:host([state=revoked]),:host([state=error]){--_tone:color-mix(in srgb,currentColor 50%,transparent);}[part=base]{display:grid;grid-template:"head figure" "track track" "text text" / 1fr auto;gap:.45em 1em;}:host(:not([label])) [part=base]{grid-template-areas:"text figure" "track track";}[part=label]:empty,[part=message]:empty{display:none;}[part=label]{grid-area:head;font-weight:600;}[part=figure]{grid-area:figure;font-weight:600;font-variant-numeric:tabular-nums;unicode-bidi:plaintext;}[part=text]{grid-area:text;color:var(--_muted);}[part=text]::first-letter{text-transform:uppercase;}:host([state=success]) [part=text],:host([state=failure]) [part=text]{color:var(--_tone);font-weight:600;}:host([state=success]) [part=text]::before{content:"✓ " / "";}:host([state=failure]) [part=text]::before{content:"✕ " / "";}[part=track]{grid-area:track;block-size:var(--jobtastic-height,.55rem);border-radius:var(--jobtastic-radius,1rem);background:var(--_track);overflow:hidden;}[part=fill]{block-size:100%;inline-size:0;border-radius:inherit;background:var(--_tone);transition:inline-size .5s ease-out,background-color .3s;}:host([unknown]) [part=fill],:host([state=failure]) [part=fill]{inline-size:100%;}:host([unknown]) [part=fill]{background:linear-gradient(90deg,transparent,var(--_tone),transparent) 0 / 45% 100% no-repeat;animation:pass 1.8s ease-in-out infinite;}:host(:dir(rtl)) [part=fill]{animation-direction:reverse;}@keyframes pass{from{background-position:-70% 0;}to{background-position:170% 0;}}[part=message]{margin-block-start:.35em;font-size:.9em;color:var(--_muted);overflow-wrap:anywhere;white-space:pre-line;}:host([state=failure]) [part=message]{margin-block-start:.7em;padding:.6em .85em;color:inherit;background:color-mix(in srgb,var(--_tone) 10%,transparent);border-inline-start:3px solid var(--_tone);border-radius:.3em;}[part=live]{position:absolute;inline-size:1px;block-size:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap;}@media (prefers-reduced-motion:reduce){[part=fill]{transition:none;}:host([unknown]) [part=fill]{animation:none;opacity:.5;background:repeating-linear-gradient(135deg,var(--_tone) 0 .4rem,transparent .4rem .8rem);}}@media (forced-colors:active){[part=track]{border:1px solid CanvasText;}[part=fill]{background:Highlight;forced-color-adjust:none;}}`;
const IDLE=45000;
function eventsOf(url){
const events=String(url).replace(/\/status(\/?(?:[?#].*)?)$/,'/events$1');
return events===String(url)?undefined:events;
}
async function readEvents(body,alive,take){
const reader=body.getReader();
const decoder=new TextDecoder();
let buffer='';
try{
for(;;){
const{done,value}=await reader.read();
if(done)return;
alive(IDLE);
const text=decoder.decode(value,{stream:true});
buffer+=text;
if(!/[\r\n]/.test(text))continue;
const blocks=buffer.split(/\r?\n\r?\n/);
buffer=blocks.pop();
for(const block of blocks){
const data=block.split(/\r?\n/).filter((line)=>line.startsWith('data:'))
.map((line)=>line.slice(5)).join('\n');
if(data&&take(JSON.parse(data)))return;
}
}
}finally{
reader.cancel().catch(()=>{});
}
}
const PATIENCE=4;
const LONGEST=30000;
const HIDDEN=15000;
const TIMEOUT=20000;
const BODY=300000;
const STREAMS=2;
const FINAL=/^(SUCCESS|FAILURE|REVOKED)$/;
const WAITING=/^(PENDING|RECEIVED|RETRY)$/;
const PASSING=[408,425,429];
const unstreamed=new Set();
let streams=0;
const seconds=(value)=>Math.min(Math.max(Number(value)||0,0),300)*1000;
function failed(message,response){
const after=response?.headers.get('Retry-After');
return Object.assign(new Error(message),{status:response?.status??0,wait:seconds(after)});
}
function taskOf(data){
if(!data?.task?.status)throw failed('No task in the answer');
return data.task;
}
async function watchTask(url,options={}){
const{signal,interval,onPending,onProgress,onSuccess,onFailure,onError}=options;
const send=options.fetch??((...request)=>fetch(...request));
const events=options.events??eventsOf(url);
const place=events&&events.replace(/[?#].*/,'').replace(/[^/]+\/events\/?$/,'');
const begun=Date.now();
let last,etag,abort,wake,broken=0,failures=0,away=false,streaming=false;
const over=()=>!!signal?.aborted;
function tell(callback,value){
if(over())return;
try{
callback?.(value);
}catch(error){
(globalThis.reportError??console.error)(error);
}
}
function deliver(task){
last=task;
const{status}=task;
if(status==='SUCCESS')tell(onSuccess,task);
else if(FINAL.test(status))tell(onFailure,task);
else tell(WAITING.test(status)?onPending:onProgress,task);
}
async function request(target,headers,limit,read){
const controller=new AbortController();
let timer;
const alive=(ms)=>{
clearTimeout(timer);
timer=setTimeout(()=>controller.abort(),ms);
};
abort=()=>controller.abort();
alive(limit);
try{
const init={headers,cache:'no-store',signal:controller.signal};
return await read(await send(target,init),alive);
}finally{
clearTimeout(timer);
abort=undefined;
}
}
async function ask(){
const headers={Accept:'application/json'};
if(etag)headers['If-None-Match']=etag;
deliver(await request(url,headers,TIMEOUT,async(response,alive)=>{
alive(BODY);
if(last&&response.status===304)return last;
if(!response.ok)throw failed(`HTTP status ${response.status}`,response);
etag=response.headers.get('ETag');
return taskOf(await response.json());
}));
}
async function follow(){
streams++;
streaming=true;
broken++;
try{
await request(events,{Accept:'text/event-stream'},8000,async(response,alive)=>{
const streamed=response.headers.get('Content-Type')?.startsWith('text/event-stream');
if(response.ok?!streamed:[404,405,501].includes(response.status)){
unstreamed.add(place);
}else if(response.ok){
await readEvents(response.body,alive,(data)=>{
deliver(taskOf(data));
etag=undefined;
broken=0;
return FINAL.test(last.status);
});
}
});
}catch(error){
if(over()||away||isHidden())broken=0;
else if(broken&&error.name==='AbortError')unstreamed.add(place);
}finally{
streams--;
streaming=false;
}
}
const streamable=()=>
events&&!unstreamed.has(place)&&broken<3&&!isHidden()&&streams<STREAMS;
function pause(error,soon){
let least=0,ms;
if(soon){
ms=1000*Math.random();
}else if(error){
least=error.wait??0;
ms=Math.min(500*2**failures,LONGEST)*(0.5+Math.random()/ 2);
}else{
least=seconds(last.retry_after);
ms=interval??(least||Math.min(Math.max((Date.now()-begun)/ 10,500),5000));
}
ms=Math.max(ms,least,isHidden()?HIDDEN:250);
return ms*(1+Math.random()/ 5);
}
function nap(ms){
let timer;
return new Promise((resolve)=>{
wake=resolve;
if(ms!==undefined)timer=setTimeout(resolve,ms);
if(over())resolve();
}).finally(()=>clearTimeout(timer));
}
const listeners=new AbortController();
const on=(target,name,handler)=>listen(target,name,handler,listeners.signal);
const stop=()=>{abort?.(); wake?.();};
signal?.addEventListener('abort',stop,{signal:listeners.signal});
on(globalThis,'online',()=>wake?.());
on(globalThis,'pagehide',()=>{away=true; stop();});
on(globalThis,'pageshow',()=>{away=false; wake?.();});
on(globalThis.document,'visibilitychange',()=>{if(!isHidden())wake?.(); else if(streaming)abort?.();});
try{
while(!over()){
if(away){await nap(); continue;}// until the page comes back from the browser's cache
let problem,soon;
try{
await ask();
failures=0;
if(!FINAL.test(last.status)&&streamable()){
await follow();
soon=!broken;
}
}catch(error){
if(over()||away)continue;
problem=error;
failures++;
const{status=0}=error;
const final=failures>=PATIENCE&&status>=400&&status<500&&
!PASSING.includes(status);
if(final||failures===PATIENCE)tell(onError,Object.assign(error,{status,final}));
if(final)return;
}
if(!over()&&FINAL.test(last?.status))return last;
if(!away)await nap(pause(problem,soon));
}
}finally{
listeners.abort();
}
}
const strings={
lang:'en',
label:'Progress',
pending:'Waiting for your task to begin',
ahead:'Waiting for your task to begin, {ahead} ahead of it',
begun:'Your task has begun',
working:'Working on it',
left:'about {time} left',
most:'less than {time} left',
moments:'a few seconds left',
finishing:'Almost done',
estimated:'~{percent}',
retry:'That did not work. Trying again soon',
success:'Done',
failure:'Your task failed',
revoked:'Your task was cancelled',
lost:'Your task was interrupted and will not go on. Please start it again',
error:'No connection to the server. Still trying',
gone:'The state of your task cannot be read',
};
const UNITS=[
[55,'second',1,5],
[3300,'minute',60,1],
[36*3600,'hour',3600,0.5],
[Infinity,'day',86400,0.5],
];
const known=(value)=>typeof value==='number'&&isFinite(value)&&value>=0;
const fill=(text,values)=>text.replace(/\{(\w+)\}/g,(_,name)=>values[name]);
const WIDE=1.5;
const VAGUE=4;
function unitOf(seconds,lang){
const [,unit,length,step]=UNITS.find(([limit])=>seconds<limit);
const format=new Intl.NumberFormat(lang,{style:'unit',unit,unitDisplay:'long'});
return{length,step,format};
}
function duration(seconds,lang){
const{length,step,format}=unitOf(seconds,lang);
return format.format(Math.max(Math.round(seconds / length / step),1)*step);
}
function range(low,high,table){
const{length,step,format}=unitOf(high,table.lang);
const round=(value,how)=>{
const coarse=value<10*length?step:Math.max(step,5);
return how(value / length / coarse)*coarse;
};
const [from,to]=[round(low,Math.floor),round(high,Math.ceil)];
return from&&high<=VAGUE*low&&format.formatRange
?fill(table.left,{time:format.formatRange(from,to)})
:fill(table.most,{time:format.format(to)});
}
function timeLeft(result,table){
const{time_remaining:time,time_remaining_low:low,time_remaining_high:high}=result;
if(!known(time))return table.working;
if(time<8)return table.moments;
if(known(low)&&known(high)&&high>=WIDE*low){
return range(Math.min(low,time),Math.max(high,time),table);
}
return fill(table.left,{time:duration(time,table.lang)});
}
function waiting(task,table){
const{ahead}=task.queue??{};
return known(ahead)&&ahead>0?fill(table.ahead,{ahead}):table.pending;
}
function describe(task,table=strings){
const{status,result}=task;
const is=(state,text,percent=null,message='')=>
({state,percent,figure:'',text,message});
if(status==='SUCCESS')return is('success',table.success,100);
if(task.lost)return is('failure',table.lost);
if(status==='FAILURE'){
return is('failure',table.failure,null,typeof result==='string'?result:'');
}
if(status==='REVOKED')return is('revoked',table.revoked);
if(status==='RETRY')return is('retry',table.retry);
if(status==='PENDING'||status==='RECEIVED')return is('pending',waiting(task,table));
const seen=is('progress',table.working,null,result?.message??'');
if(!known(result?.progress_percent))return seen;
const percent=Math.min(result.progress_percent,100);
const figure=new Intl.NumberFormat(table.lang,{style:'percent'})
.format(Math.floor(percent)/ 100);
seen.percent=percent;
seen.figure=result.estimated?fill(table.estimated,{percent:figure}):figure;
if(percent===0)seen.text=table.begun;
else seen.text=percent===100?table.finishing:timeLeft(result,table);
return seen;
}
const MESSAGE=1000;
let sheet; // an object,because a page's Content-Security-Policy may forbid<style>
function build(root){
if(!sheet){
sheet=new CSSStyleSheet();
sheet.replaceSync(css);
}
root.adoptedStyleSheets=[sheet];
const parts={};
const add=(parent,name)=>{
const part=parts[name]=create('div');
part.part=name;
parent.append(part);
return part;
};
const base=add(root,'base');
add(base,'label');
add(base,'figure').ariaHidden=true;
const track=add(base,'track');
track.role='progressbar';
track.ariaValueMin=0;
track.ariaValueMax=100;
add(track,'fill');
add(base,'text');
add(root,'message');
add(root,'live').role='status';
return parts;
}
class JobtasticProgress extends(globalThis.HTMLElement??class{}){
static observedAttributes=['src','events','label','strings'];
#parts;
#watch;
#seen;
#strings={};
task;
get state(){return this.getAttribute('state')??'';}
get percent(){return this.#seen?.percent??null;}
get src(){return this.getAttribute('src')??'';}
set src(url){this.setAttribute('src',url);}
get strings(){return this.#strings;}
set strings(table){
this.#strings=table??{};
if(this.task)this.show(this.task);
this.#name();
}
fetch(url,init){return fetch(url,init);}
show(task){
this.task=task;
this.#show(describe(task,this.#table()));
}
fail(error){
const{error:trying,gone}=this.#table();
this.#show({figure:'',...this.#seen,state:'error',text:error.final?gone:trying});
}
connectedCallback(){
this.#build();
if(Object.hasOwn(this,'strings')){
const table=this.strings;
delete this.strings;
this.strings=table;
}
if(!/^(success|failure|revoked)$/.test(this.state))this.#start();
}
disconnectedCallback(){this.#watch?.abort();}
attributeChangedCallback(name,before,now){
if(name==='strings'){
try{
this.strings=JSON.parse(now||'{}');
}catch(error){
console.error('jobtastic-progress: strings is not JSON',error);
}
}
if(!this.isConnected||!this.#parts||before===now)return;
if(name==='label')this.#name();
else if(name!=='strings')this.#start();
}
#table(){return{...strings,...this.#strings};}
#build(){
if(this.#parts)return;
this.#parts=build(this.attachShadow({mode:'open'}));
this.#name();
}
#name(){
if(!this.#parts)return;
const label=this.getAttribute('label')??'';
this.#parts.label.textContent=label;
this.#parts.track.ariaLabel=label||this.#table().label;
}
#start(){
this.#watch?.abort();
const{src}=this;
if(!src)return;
this.#seen=undefined;
this.show({status:'PENDING'});
const watch=this.#watch=new AbortController();
const emit=(event,detail)=>this.dispatchEvent(new CustomEvent(event,{detail}));
const follow=(event)=>(task)=>{
this.show(task);
if(event)emit(event,task);
};
watchTask(src,{
signal:watch.signal,
events:this.getAttribute('events')??undefined,
fetch:(...request)=>this.fetch(...request),
onPending:follow(),
onProgress:follow('progress'),
onSuccess:follow('success'),
onFailure:follow('failure'),
onError:(error)=>{
this.fail(error);
emit('error',error);
},
});
}
#show({state,percent,figure,text,message:said}){
this.#build();
const message=typeof said==='string'?said:'';
const{track,fill,live,...parts}=this.#parts;
const ended=/^(failure|revoked|error)$/.test(state);
const reached=percent??(ended?this.#seen?.percent??null:null);
const moved=this.state!==state;
this.#seen={percent:reached,figure};
this.setAttribute('state',state);
this.toggleAttribute('unknown',reached===null&&!ended);
fill.style.inlineSize=reached===null?'':`${reached}%`;
parts.figure.textContent=figure;
parts.text.textContent=text;
parts.message.textContent=message.length>MESSAGE?`${message.slice(0, MESSAGE)}…`:message;
track.ariaValueNow=reached===null?null:Math.floor(reached);
track.ariaValueText=figure?`${figure}, ${text}`:text;
if(moved)live.textContent=message&&ended?`${text}: ${message}`:text;
}
}
if(globalThis.customElements&&!customElements.get('jobtastic-progress')){
customElements.define('jobtastic-progress',JobtasticProgress);
}
export{JobtasticProgress,strings,watchTask};
