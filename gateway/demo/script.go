package demo

// Customer is one simulated caller: who they are and what they say.
type Customer struct {
	Number   string
	Name     string
	Language string
	Pitch    int
	DID      string
	// Lines are said in turn, with pauses, once an agent has answered.
	Lines []string
	// Digits are pressed after the first line.
	Digits string
	// Patience is how many seconds they wait for an agent; 0 = as long as it takes.
	Patience int
	// HangsUp says that they end the call after their last line; else they
	// wait for the agent to do it.
	HangsUp bool
}

// Customers returns the demo's callers, four languages among them.
func Customers() []Customer {
	return []Customer{
		{
			Number: "59899123456", Name: "Marta Silveira", Language: "es", Pitch: 60, DID: "59825550111", HangsUp: true,
			Lines: []string{
				"Hola, buenos días. Desde anoche no tengo internet en casa y el módem tiene una luz roja.",
				"Sí, mi número de cliente es cuatro, cinco, ocho, uno. Ya lo apagué y lo volví a encender.",
				"Perfecto, ahora la luz está verde. Muchas gracias por la ayuda, hasta luego.",
			}, Digits: "4581#",
		},
		{
			Number: "5511987654321", Name: "João Ferreira", Language: "pt", Pitch: 35, DID: "59825550111", HangsUp: true,
			Lines: []string{
				"Bom dia, estou ligando porque a velocidade da minha conexão caiu bastante esta semana.",
				"Já fiz o teste de velocidade duas vezes, e dá menos da metade do contratado.",
				"Está bem, espero o técnico na terça-feira de manhã. Obrigado e bom trabalho.",
			},
		},
		{
			Number: "390612345678", Name: "Paolo Ricci", Language: "it", Pitch: 30, DID: "59825550111",
			Lines: []string{
				"Buongiorno, ho ricevuto il nuovo router, ma non riesco a collegare il telefono.",
				"Sì, ho inserito il cavo nella porta giusta. Aspetto che lei controlli la linea.",
			},
		},
		{
			Number: "14155550142", Name: "Emily Carter", Language: "en", Pitch: 55, DID: "59825550111", HangsUp: true,
			Lines: []string{
				"Hello, I am moving to a new flat next month and would like to take my connection with me.",
				"The new address is twelve Harbour Street, and I move on the first of the month.",
				"That is wonderful. Thank you very much for your help, and have a nice day.",
			}, Digits: "12#",
		},
		{
			Number: "59894222333", Name: "Rosa Cabrera", Language: "es", Pitch: 70, DID: "59825550122", Patience: 25, HangsUp: true,
			Lines: []string{
				"Buenas tardes, la última factura vino con un importe que no entiendo.",
				"Gracias, entonces espero la nota de crédito. Que tenga un buen día.",
			},
		},
		{
			Number: "anonymous", Language: "es", Pitch: 45, DID: "59825550111", Patience: 8, HangsUp: true,
			Lines: []string{"Hola, ¿con quién hablo? Perdón, me equivoqué de número."},
		},
	}
}

// Answers are what called customers say when an agent rings them.
func Answers() []Customer {
	return []Customer{
		{Language: "es", Pitch: 40, Lines: []string{"¿Hola? Sí, soy yo. Cuénteme, ¿de qué se trata?", "Me interesa, pero llámeme mañana por la tarde, por favor. Adiós."}, HangsUp: true},
		{Language: "pt", Pitch: 55, Lines: []string{"Alô? Pode falar, estou ouvindo.", "Não, obrigado, já tenho internet. Até logo."}, HangsUp: true},
	}
}
